"""The fixed text of the page."""

from scripts.benchmark_samplers.log_z import CHAINS
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
    "weights with the standard deviation 2. Its variables are the visible units; its "
    "functions are these units and the product of each unit with the next one in their order.",
}

OTHERWISE = {  # samplers that are another algorithm on one target than on the others
    ("rbm", "gibbs"): "block Gibbs",
    ("rbm", "tempering"): "tempered Gibbs with gradients",
}

INTRODUCTION = """\
Every sampler and every estimator on this page is compared on targets whose moments and log Z are
known, at the same cost in gradient evaluations; only {term}`parallel tempering` for log Z cannot
plan its cost exactly. All numbers are computed from the result files in
`docs/data/samplers`, which hold every pilot run and every seed.

The samplers of continuous variables are {term}`MALA`, {term}`ULA`, {term}`BAOAB`, {term}`HMC`,
{term}`NUTS` and {term}`MCLMC`; those of discrete variables are {term}`Gibbs sampling`,
{term}`Gibbs with gradients`, {term}`DULA` and {term}`DMALA`. NUTS, HMC, MCLMC and one of the two
MALA are those of [blackjax](https://github.com/blackjax-devs/blackjax). *Tempered* samplers use
{term}`parallel tempering`, and annealed {term}`SMC` is sequential Monte Carlo. [How to choose a
sampler](choose_a_sampler.md) has advice."""

MEASURES = """\
## What is measured

* **Cost.** One unit is one gradient of the energy for one chain, which also yields the energy. An
  energy without its gradient costs half a unit. NUTS counts the leapfrog steps that it reports,
  HMC one gradient per leapfrog step (a move of position and velocity), MCLMC two gradients per
  step, and tempering the gradients and energies of all its replicas. A sweep of Gibbs sampling
  over all variables counts as one gradient, because it needs the same matrix products. A step of
  Gibbs with gradients, which proposes to change one variable, and a step of DULA or DMALA, which
  proposes to change any number, cost one gradient each: that of the current state is kept.
* **Squared error.** Every target has test functions whose exact means are known. The squared error
  of an estimated mean, in units of the variance of the function, is averaged over them. The mean
  of $N$ independent samples has the error $1/N$, so $1/\\text{error}$ is the number of
  *independent samples* that would be as precise. It is an average over the functions, and bias
  counts. Unless stated otherwise, the functions are the coordinates and their squares.
* **Effective samples.** The lowest {term}`effective sample size` of the test functions, by the
  package arviz-stats: it is that of the worst function, estimated from the autocorrelation alone.
  It does not detect bias, or a mode that no chain visits. Where it is far above the independent
  samples, suspect one of the two, or rare values that few chains visit; where it is far below, one
  function mixes slowly.
* **Bias.** The percentage of the squared error at the largest budget that comes from the error
  that all seeds have in common. It is estimated from the mean error over the seeds. Even a sampler
  that is exact in the long run shows bias if its chains are too short to forget where they
  started.
* **Error falls by.** The ratio of the errors at the smallest and the largest budget, which is 16
  times the smallest. It is about 16 if the error is that of chains that {term}`mix <mixing>` well,
  and smaller where they are too short or bias remains. With 10 seeds it is uncertain: values above
  30 occur.
* **Options.** A *step size* of MALA, ULA and annealed SMC is half the variance of the noise of a
  step, so it scales with the square of a length; that of BAOAB, HMC and MCLMC is a time step. *L*
  is the length of the path on which MCLMC forgets its direction. *Smallest beta* is the smallest
  inverse temperature of tempering. The step size of DULA and DMALA is the argument of
  `samplers.dula`, in squared units of the values; the *friction* of BAOAB is the rate at which it
  forgets its velocity; the *target acceptance rate* is the one to which NUTS adapts its step
  size."""

BOLD = """\
Names in bold are tied for the best: their 95 % {term}`bootstrap interval` overlaps that of the
lowest error. A wide interval can make a worse sampler tie. Intervals are in brackets. A dash marks
a missing value: a run diverged, its warm-up took the whole budget, or the measure does not
apply."""


def protocol(row: Row) -> str:
    """Return the paragraph on the protocol, which all rows share."""
    p = row["protocol"]
    return (
        f"Short pilot runs choose the options of every sampler from {p['pilots']} "
        "{term}`quasi-random points`. "
        "The ranges are multiples of the smallest length scale of the target. Every pilot run has "
        f"{p['pilot_share']:g} of the budget. The options whose squared error, averaged over "
        f"{p['seeds']} pilot seeds, is lowest are chosen; the final runs use other seeds. The "
        "cost of pilot runs, "
        f"{p['pilots'] * p['pilot_share']:g} times that of the final runs, is not counted. The "
        "squared error needs the exact means: in practice you can rarely choose options so well. "
        "Every final result uses "
        f"{p['seeds']} seeds with {p['chains']} chains each. Chains start from a wide normal "
        f"distribution (discrete: uniform) and spend {p['budget']:,} gradients each. The first "
        "fifth of every budget is discarded as warm-up.\n\n"
        f"NUTS adapts its step size and a diagonal mass matrix in {ADAPTATION_STEPS} transitions "
        "of blackjax's window adaptation. Their gradients count, so that NUTS pays for a part of "
        "its tuning; where they take the whole budget, its row has dashes. All other samplers have "
        f"one step size for all directions. Tempering has {NUM_REPLICAS} replicas (discrete: "
        f"{NUM_DISCRETE_REPLICAS}) with {STEPS_PER_SWAP} steps between swaps. Their inverse "
        "temperatures form a geometric progression that ends at 1, and the pilot runs choose the "
        "smallest one. On the RBM, tempering uses Gibbs with gradients, because block Gibbs "
        "sampling does not sample the free energy times an inverse temperature. Annealed "
        "sequential Monte Carlo (SMC) gets the total budget of all chains of a seed. It makes one "
        "step at each inverse temperature, of MALA or of Gibbs sampling, and uses four times as "
        "many particles as temperatures. On the RBM the step is block Gibbs sampling, along a path "
        "of RBMs whose parameters grow from zero."
        "\n\nThe chains have to find the target from their start: this is part of the comparison. "
        "On banana, the gradient far from the valley is steep: with large steps some chains of "
        "MALA never leave their start, so that the pilot runs choose a very small step."
    )


def log_z(row: Row) -> str:
    """Return the text on the estimators of log Z."""
    p = row["protocol"]
    text = LOG_Z.replace("COST", f"{p['budget'] * p['chains']:,}")
    return text.replace("SEEDS", str(p["seeds"])).replace("CHAINS", str(CHAINS))


LOG_Z = """\
## Estimators of log Z

The table has the root mean squared error of log Z in {term}`nats` at the largest budget, which is
that of the samplers: COST gradients for each of SEEDS seeds. Brackets have its 95 % interval. Bold
values are tied for the best of their column, in which estimators that need exact samples are ranked
too; in the counts at the top of this page they are not. The base is the distribution in which the
chains start. On discrete targets the chains move by Gibbs sampling, on the RBM by block Gibbs
sampling along a path of RBMs whose parameters grow from zero. On continuous targets they move by
MALA: at the target with the step size in its row *MALA*, at the base with a larger one that fits
the base, and in between the inverse of the step size is interpolated. This step size was chosen for
the samplers, not for log Z, and is very small on banana.

* {term}`Importance sampling` from the base is the baseline.
* Annealed importance sampling ({term}`AIS`) runs CHAINS chains from the base to the target. *With
  resampling*, chains of low weight are replaced by copies of others where the weights differ much.
  Where they never do, both have the same error. (Annealed SMC in the tables above is the same
  algorithm with more chains and fewer temperatures.)
* Reverse AIS runs the chains from exact samples of the target to the base. {term}`Bennett's ratio
  <Bennett's acceptance ratio>` combines runs in both directions, each with half of the cost. Both
  need exact samples, which you do not have for a trained model.
* Tempering is `partition.parallel_tempering`. It chooses its own number of replicas, so that its
  cost is known only after the run. The figure shows the actual cost. The table has the run that was
  planned for the largest budget, and its cost as a share of this budget. Tempering is ranked like
  the others, as if all had the same cost.

The funnel is a deliberately bad case: even the wide base is much narrower than the target."""
