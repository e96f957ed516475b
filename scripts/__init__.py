"""Programs around the experiments; run one with ``python -m scripts.NAME --help``."""
