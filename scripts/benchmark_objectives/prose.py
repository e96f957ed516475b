"""The fixed text of the sections of docs/objectives.md."""

GROUPS = (
    "The answer at the top of this page and the heat map use the largest budget of each class "
    "of problems. Where results are missing, they use the budget with the most results. The "
    "best objective forms a group with all objectives whose intervals, before rounding, overlap "
    "with its interval. The best of the remaining objectives then forms the next group in the "
    "same way. So neighbours in two groups can be almost equal, and within a group one can be "
    "better than another. The fourth column counts the single problems on which an objective is "
    "in the best group. *P(first is better)* is the probability that a run of the first "
    "objective of the table has a smaller gap than a run of the objective in the row on the "
    "same problem, as a mean over the problems. Where it is below 0.5, the objective in the row "
    "wins more runs, but loses the others by more. On the mixtures, exact maximum likelihood is "
    "not ranked: it uses samples of the true density, which you do not have in practice. Its "
    "gap is in the table of the problem. The intervals on the mixtures are wider than those "
    "over seeds: the difference between two estimates of log Z (last column of [the "
    "gaps](#gaps-by-problem)) is added at both ends."
)
TUNING = (
    "Every objective has the same number of trials, trained with one seed at budget 1. A trial is "
    "a {term}`quasi-random <quasi-random points>` choice of the learning rate and of the "
    "objective's own options, which [the protocol](benchmark_protocol.md#objectives) explains. The "
    "trial with the smallest gap on validation data is used at every "
    "budget. Gaps are validation gaps in nats, or sliced Wasserstein distances for the objectives "
    "that are judged by samples. The difference between the smallest and the median gap shows how "
    "much the tuning matters. On the two real data sets (nltcs, plants) the validation gap is "
    "the validation loss minus the *test* loss of the reference, so that it can be negative."
)
COSTS = (
    "Medians over problems and seeds: network passes of an update, updates of a training at "
    "budget 1 and, at budget 2, processor time of an update and of a training. An objective with "
    "an expensive update makes few updates, so its gap at a small budget shows this cost. In the "
    "plane, exact maximum likelihood trains on a grid of 64 × 64 points; a finer one measures the "
    "gap. On the mixtures it uses 1,024 samples of the true density. Random "
    "numbers, sums and kernels are not counted as network passes, so trainings of equal passes "
    "differ in time. The columns are separate medians: their products can differ from the budget. "
    "Ten seeds are trained together as one program, and the times are the share of one seed. "
    "Empty cells are not measured yet."
)
SAMPLES = (
    "Flow matching, equilibrium matching and short-run chains do not train an energy E for which "
    "exp(-E) / Z is the model, so they have no likelihood. Their samples are compared with test "
    "data in two ways: by the {term}`sliced Wasserstein distance`, next to its value for two "
    "samples of the data, and by the accuracy with which a nearest-neighbour classifier "
    "distinguishes samples from data (0.5 is perfect). The values are interquartile means over "
    "the seeds with their intervals. The two measures can disagree: the first compares "
    "projections, the second small neighbourhoods. A sample costs 100 gradients with flow "
    "matching, 250 with equilibrium matching, and 20 or 60 with short-run chains (*steps* in the "
    "section on tuning)."
)
PROBLEMS = (
    "The long exact training has twice the largest budget. On binary data this is few updates, so "
    "that other objectives can reach a smaller gap. For the two real data sets such a training is "
    "the reference that takes the place of the entropy."
)
