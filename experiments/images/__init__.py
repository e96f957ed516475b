"""One energy F(x, y) of images and their classes: the program, in the order of its work.

``flags``, ``defaults`` and ``settings`` choose the settings; ``network``, ``flow``, ``chains`` and
``objective_terms`` make the energy and the objective; ``training``, ``log_likelihood``,
``sampling``, ``measures``, ``pictures`` and ``report`` do the work, in the order of ``pipeline``.
``loading`` reads a finished run.
"""
