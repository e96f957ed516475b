r"""From energies to losses: the family of LeCun et al. (2006), table 1, and the homework's own.

Two kinds, one signature each, unreduced (the caller averages):

* pairwise, ``loss(positive, negative, *, ...)``: E+ = F(x, y) of the right answer and
  E- = F(x, y') of a wrong one, broadcasting; elementwise;
* over candidates, ``loss(energies, label, *, ...)``: F(x, y) for every candidate y on the last
  axis, and the index of the right one.

``over_candidates`` makes a pairwise loss one over candidates, with the most offending answer.
``gradients.of`` gives their derivatives by hand, ``margins`` says which make the right answer win.

Source of every formula: Y. LeCun, S. Chopra, R. Hadsell, M. Ranzato, F. Huang (2006), A tutorial
on energy-based learning, in Predicting Structured Data, MIT Press.
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
