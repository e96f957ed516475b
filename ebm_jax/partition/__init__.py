"""Partition functions: log Z exactly, by annealing, and by bridges between energies."""

from ebm_jax.partition import exact

__all__ = ["exact"]
