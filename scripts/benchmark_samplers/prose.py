"""The fixed text of the page."""

from scripts.benchmark_samplers.methods import (
    ADAPTATION_STEPS,
    NUM_DISCRETE_REPLICAS,
    NUM_REPLICAS,
    STEPS_PER_SWAP,
)
from scripts.benchmark_samplers.rows import Row

DESCRIPTIONS = {
    "gaussian": "A Gaussian in 10 dimensions with rotated axes and standard deviations from 0.1 to "
    "1.",
    "funnel": "Neal's funnel in 10 dimensions: the first coordinate v is normal with the standard "
    "deviation 3, the others are normal with the variance exp(v). Its functions are v, its square, "
    "and the indicator of v < -3, since the squares of the other coordinates have a variance of "
    "the order of exp(18).",
    "banana": "Rosenbrock's curved valley in the plane, $(1 - x)^2 + 10 (y - x^2)^2$.",
    "mixture_2d": "Eight Gaussians on a circle of radius 3 in the plane, with the standard "
    "deviation 0.4 and weights from 1/36 to 8/36.",
    "mixture_8d": "Four Gaussians with unit variance in 8 dimensions, on randomly rotated axes at "
    "the distance 4 from the origin, with weights 0.4, 0.3, 0.2 and 0.1.",
    "mixture_32d": "The same in 32 dimensions, at the distance 5.",
    "network": "A network with two hidden layers of 32 units, trained by exact maximum likelihood "
    "on the pinwheel density in the plane. Its moments and log Z are sums over a grid.",
    "ising": "The Ising model on a 4 × 4 torus at the critical coupling of the infinite lattice. "
    "Its functions are the spins and the products of neighbours.",
    "random_graph": "A spin glass on a random graph with 14 nodes and 28 edges. The couplings are "
    "normal with the standard deviation 1, the fields with 0.3. Its functions are the spins and "
    "the products along the edges.",
    "rbm": "A restricted Boltzmann machine (RBM) with 12 visible and 6 hidden units and normal "
    "weights with the standard deviation 2. Its variables are the visible units, its functions "
    "these units and the products of neighbours.",
}

INTRODUCTION = """\
Every sampler and every estimator on this page is compared on targets whose moments and log Z are
known, at the same cost in gradient evaluations. The numbers follow from the rows in
`docs/data/samplers`, which have all pilot runs and all seeds."""

MEASURES = """\
## What is measured

* **Cost.** One unit is one gradient of the energy of one chain. It includes the energy; an energy
  without its gradient is half a unit. NUTS counts the leapfrog steps that it reports, HMC one
  gradient per leapfrog step, MCLMC two gradients per step, and tempering the gradients and energies
  of all its replicas. A sweep of Gibbs sampling over all variables counts as one gradient, because
  it computes the same products.
* **Squared error.** The squared error of the estimated mean of a function, in units of the
  function's variance, averaged over the functions of the target. The mean of $N$ independent
  samples has the error $1/N$, so $1/\\text{error}$ is the number of independent samples that would
  be as precise. Unless stated otherwise, the functions are the coordinates and their squares.
* **Effective samples.** The {term}`effective sample size` from arviz-stats of the function for
  which it is lowest. It does not detect a mode that no chain visits; the squared error does.
* **Bias.** The share of the squared error at the largest budget that is bias, estimated from the
  mean error over the seeds. A sampler that leaves the target invariant shows bias if its chains are
  too short to forget where they started.
* **Error falls by.** The ratio of the errors at the smallest and the largest budget, which is 16
  times the smallest. It is about 16 if the chains mix well, and near 1 where bias remains.

Names in bold are tied for the best: their 95 % bootstrap interval overlaps that of the lowest
error. Intervals are in brackets. A dash means that there is no value: a run diverged, its warm-up
took the whole budget, or the measure does not apply."""


def protocol(row: Row) -> str:
    """Return the paragraph on the protocol, which all rows share."""
    p = row["protocol"]
    return (
        f"Pilot runs choose the options of every sampler from {p['pilots']} quasi-random points. "
        "The ranges are multiples of the smallest length scale of the target. The criterion is the "
        f"lowest mean squared error at {p['pilot_share']:g} of the budget, with {p['seeds']} pilot "
        f"seeds that are not used again. Every final run has {p['seeds']} seeds with "
        f"{p['chains']} chains each. Chains start from a wide normal distribution (discrete: "
        f"uniformly), and each chain has {p['budget']:,} gradients. The first fifth of every "
        "budget gives no samples.\n\n"
        f"NUTS adapts its step size and a diagonal mass matrix in {ADAPTATION_STEPS} transitions "
        "of blackjax's window adaptation, whose gradients count. All other samplers have one step "
        f"size for all directions. Tempering has {NUM_REPLICAS} replicas (discrete: "
        f"{NUM_DISCRETE_REPLICAS}) at inverse temperatures in geometric progression, of which the "
        f"pilot runs choose the smallest, and {STEPS_PER_SWAP} steps between swaps. Tempering of "
        "the RBM uses Gibbs with gradients, since block Gibbs sampling does not sample a tempered "
        "free energy. Annealed sequential Monte Carlo (SMC) has the cost of all chains of a seed, "
        "one step at each inverse temperature, and four times as many particles as temperatures."
        "\n\nThe start is part of the comparison. Far from the banana the gradient is steep: with "
        "large steps some chains of MALA never leave their start, and the pilot runs choose a very "
        "small step."
    )


LOG_Z = """\
## Estimators of log Z

The table has the root mean squared error of log Z in {term}`nats` at the largest budget, with its
95 % interval. Bold values are tied for the best of their column. The base is the distribution where
chains start, and MALA has the step size from the table of its target. Annealed importance sampling
({term}`AIS`) runs 64 chains from the base to the target. Reverse AIS runs them from exact samples
of the target to the base. Bennett's ratio combines runs in both directions, each with half of the
cost. These two need exact samples, which a trained model does not have. Tempering is
`partition.parallel_tempering`. It chooses the number of its replicas, so that its cost is known
after the run only. The figure shows that cost; the table has the run that was planned for the
largest budget. Importance sampling from the base is the baseline. The funnel is a bad case on
purpose: its base is much narrower than the target."""
