"""Programs that answer a question each.

``python -m experiments`` lists them; run one with ``python -m experiments.NAME --help``.
"""
