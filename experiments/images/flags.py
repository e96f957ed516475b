"""The flags of ``images`` in groups, and the text of --help; nothing here imports JAX."""

import re
import textwrap

import numpy as np
from absl import flags

from experiments import names
from experiments.images.defaults import defaults
from experiments.run import command_line

command_line.define_path(
    "data",
    "digits",
    f"Images to model: {', '.join(names.IMAGES)}, an .npz file of x and y, or a folder of images.",
)
command_line.define_path("data_dir", None, names.DATA_DIR)
command_line.define_paths(
    "outliers",
    [],
    "Out-of-distribution images of the same size: the same kinds of values as --data.",
)
flags.DEFINE_integer(
    "hold_out_class",
    -1,
    "Class that is left out of training and scored as an outlier; -1 for none.",
    lower_bound=-1,
)
flags.DEFINE_bool(
    "quick",
    False,
    "Use smaller defaults: a run takes about ten minutes on two CPU cores; see --train_minutes.",
)
command_line.define_path(
    "init_from",
    None,
    "Start from the weights of the finished run in this folder. Flags that are not given, except "
    "--seed, are taken from it; the optimiser, the learning-rate schedule and the chains restart.",
)
command_line.define_path(
    "sample_from",
    None,
    "Do not train: draw --samples with the weights of the finished run in this folder. Flags that "
    "are not given, except --seed, are taken from it.",
)
flags.DEFINE_enum(
    "generative",
    None,
    ["energy_matching", "pcd", "none"],
    "Training of the joint density of image and class: a flow that chains refine "
    "(energy_matching), persistent chains (pcd), or neither (none).",
)
flags.DEFINE_enum("loss", "nll", names.LOSSES, "Loss over the classes of an image.")
command_line.define_float(
    "margin", 1.0, "Parameter of the loss: its margin, ceiling or weight gamma.", 0, np.inf
)
flags.DEFINE_integer(
    "steps", None, "Number of updates, not counting those of the flow.", lower_bound=0
)
flags.DEFINE_integer(
    "flow_steps",
    None,
    "Number of updates of the flow, before the others; 0 needs --init_from.",
    lower_bound=0,
)
command_line.define_float("learning_rate", None, "Peak learning rate of Adam.", 1e-9)
command_line.define_float(
    "flow_learning_rate", None, "Peak learning rate of Adam for the flow.", 1e-9
)
command_line.define_float(
    "train_minutes",
    None,
    "Minutes that training may take; 0 for no limit. The speed is measured first, and a machine on "
    "which the updates would take longer makes fewer of them, but at least an eighth.",
    0,
    1e6,
)
command_line.define_float(
    "flow_weight", None, "Weight of the flow's loss; the loss over classes has weight 1.", 0
)
command_line.define_float(
    "denoising_weight", None, "Weight of denoising score matching while the flow trains.", 0
)
command_line.define_float(
    "generative_weight", None, "Weight of the contrastive divergence in the total loss.", 0
)
command_line.define_float(
    "data_noise", 0.13, "Standard deviation of the noise added to the training images.", 1e-3, 10
)
flags.DEFINE_list(
    "channels",
    None,
    "Channels of the convolutions; the last two halve the resolution (a single one of small "
    "images does not). An empty list (--channels=) makes the network dense.",
)
flags.DEFINE_integer("hidden", None, "Width of the dense hidden layers.", lower_bound=1)
flags.DEFINE_enum(
    "precision",
    "float32",
    ["float32", "bfloat16"],
    "Precision of the matrix products in the hidden layers.",
)
flags.DEFINE_enum(
    "sampler",
    None,
    ["mala", "baoab"],
    "Langevin dynamics of the chains: Metropolis-adjusted (mala), or underdamped (baoab).",
)
flags.DEFINE_integer("langevin_steps", None, "Langevin steps of a chain per update.", lower_bound=1)
command_line.define_float(
    "step_size", None, "Step size, in squared grey levels of [0, 1].", 1e-9, 10
)
flags.DEFINE_integer("chains", None, "Chains that move at every update.", lower_bound=1)
flags.DEFINE_integer("buffer_size", None, "Number of persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups",
    1,
    "Number of groups of persistent chains; each update draws equally from all groups.",
    lower_bound=1,
)
command_line.define_float(
    "restart", 0.005, "Fraction of the drawn chains that restart from noise.", 0, 1
)
flags.DEFINE_integer("samples", None, "Number of images to draw at the end.", lower_bound=2)
flags.DEFINE_integer(
    "sample_steps", None, "Langevin steps from noise to a sample, a multiple of 10.", lower_bound=10
)
command_line.define_float("sample_beta", 0.8, "Inverse temperature of the samples.", 0.01, 100)
command_line.define_float("guidance", None, "Exponent of P(y | x) in the sampled density.", 0, 100)
flags.DEFINE_integer(
    "betas",
    None,
    "Temperatures of the annealing that estimates log Z and the class probabilities; 0: skip it.",
    lower_bound=0,
)
flags.register_validator(
    "sample_steps", lambda n: n is None or n % 10 == 0, "must be a multiple of 10."
)
flags.register_validator(
    "channels",
    lambda widths: widths is None or all(re.fullmatch("[1-9][0-9]*", str(w)) for w in widths),
    "must be integers >= 1, as in 32,64, or an empty list.",
)
flags.register_validator("betas", lambda n: n not in (1, 2), "must be 0, or at least 3.")
flags.register_multi_flags_validator(
    ["init_from", "sample_from"],
    lambda chosen: not (chosen["init_from"] and chosen["sample_from"]),
    "--init_from trains and --sample_from does not train: give only one of them.",
)

GROUPS = {
    "Data": ("data", "data_dir", "outliers", "hold_out_class"),
    "Run": ("workdir", "seed", "quick", "init_from", "sample_from"),
    "Network": ("channels", "hidden", "precision"),
    "Objective": (
        *("loss", "margin", "generative", "generative_weight", "flow_weight"),
        *("denoising_weight", "data_noise"),
    ),
    "Training": (*("steps", "flow_steps", "learning_rate", "flow_learning_rate", "train_minutes"),),
    "Chains": (
        *("sampler", "step_size", "langevin_steps", "chains", "buffer_size", "groups", "restart"),
    ),
    "Samples and likelihood at the end": (
        *("samples", "sample_steps", "sample_beta", "guidance", "betas"),
    ),
    "Devices and processes": ("mesh", "coordinator", "num_processes", "process_id"),
}


def help_text() -> str:
    """Return the text of --help: the flags by group, with their defaults by image size."""
    sizes = [defaults(shape, quick) for shape in ((16, 16), (28, 28)) for quick in (False, True)]
    lines = [
        "Write flags as --name=value. Defaults are in brackets. A default A (B) / C (D) depends on",
        "the size of the images: it is A for images of at most 256 pixels and C for larger ones,",
        "and with --quick B and D. Weights C and D are those for 28x28 pixels. The defaults of",
        "--sampler and of the chains also depend on --generative.",
    ]
    for title, chosen in GROUPS.items():
        lines += ["", f"{title}:"]
        for name in chosen:
            flag = flags.FLAGS[name]
            allowed = getattr(flag.parser, "enum_values", None)
            lines.append(f"  --{name}" + (f"={'|'.join(allowed)}" if allowed else ""))
            default = _default(name, flag.default, sizes)
            about = re.sub("^<.*?>: ", "", flag.help)  # absl's list of allowed values
            about += f" [{default}]" if default else ""
            lines += textwrap.wrap(about, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([*lines, "", "--helpfull also lists the flags of the libraries."])


def _default(name: str, default, sizes: list[dict]) -> str:
    if name not in sizes[0]:
        return "" if default in (None, []) else str(default)
    small, small_quick, large, large_quick = (_shown(size[name]) for size in sizes)
    small += f" ({small_quick})" if small_quick != small else ""
    large += f" ({large_quick})" if large_quick != large else ""
    return small if small == large else f"{small} / {large}"


def _shown(value) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
