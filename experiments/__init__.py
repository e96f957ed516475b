"""Programs that answer a question each; run one with ``python -m experiments.NAME --help``."""
