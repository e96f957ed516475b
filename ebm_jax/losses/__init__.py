"""Loss functions of energies: the family of LeCun et al. (2006), table 1.

There are two kinds, both without a reduction (the caller averages):

* pairwise, ``loss(positive, negative, *, ...)``: elementwise in the energy :math:`E^+ = F(x, y)` of
  a right answer and the energy :math:`E^- = F(x, y')` of a wrong one;
* over candidates, ``loss(energies, label, *, ...)``: energies :math:`F(x, y)` of all candidates y
  on the last axis, and the index of the right answer.

``over_candidates`` turns a pairwise loss into a loss over candidates, with the most offending
answer. ``gradients.of`` gives derivatives by hand; ``margins`` tests which losses make the right
answer win.

``simple`` and the one-sided ``square_square`` are the forms of the NYU energy-based-models
homework. Source of all other formulas: Y. LeCun, S. Chopra, R. Hadsell, M. Ranzato, F. Huang
(2006), A tutorial on energy-based learning, in Predicting Structured Data, MIT Press.
"""

from ebm_jax.losses import gradients, margins
from ebm_jax.losses.candidates import (
    mee,
    most_offending,
    nll,
    offender,
    over_candidates,
    perceptron,
    winner,
)
from ebm_jax.losses.pairwise import (
    energy,
    hinge,
    log,
    lvq2,
    mce,
    simple,
    square_exponential,
    square_square,
)

__all__ = [
    "energy",
    "gradients",
    "hinge",
    "log",
    "lvq2",
    "margins",
    "mce",
    "mee",
    "most_offending",
    "nll",
    "offender",
    "over_candidates",
    "perceptron",
    "simple",
    "square_exponential",
    "square_square",
    "winner",
]
