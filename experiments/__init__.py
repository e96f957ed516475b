"""Programs that answer a question each.

``python -m experiments`` lists them; run one with ``python -m experiments.NAME --help``. A program
is a file or a package with ``__main__``. They share ``run`` (command line, work directory, training
loop, checkpoints, devices), ``data``, ``objectives_by_name``, ``losses_by_name``, ``evaluation``
and ``plots``; ``names`` lists what flags allow.
"""
