"""One energy F(x, y) of images and their classes: the program, in the order of its work.

``flags`` and ``defaults`` say what is trained; ``network``, ``flow``, ``chains`` and
``objective_terms`` make the energy and the objective; ``training``, ``sampling``,
``log_likelihood`` and ``report`` do the work. ``loading`` reads a finished run.
"""
