"""Samplers and estimators of log Z, compared on targets with known moments."""
