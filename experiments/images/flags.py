"""The flags of ``images``, in groups, and its help; nothing here imports JAX."""

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
    f"Images to model: {', '.join(names.IMAGES)}, a file .npz of x and y, or a folder of images.",
)
command_line.define_path("data_dir", None, names.DATA_DIR)
command_line.define_paths(
    "outliers", [], "Images of the same size to tell from the data, named as those of --data."
)
flags.DEFINE_integer(
    "hold_out_class",
    -1,
    "Train without this class and score it as an outlier; -1 for none.",
    lower_bound=-1,
)
flags.DEFINE_bool("quick", False, "Use smaller defaults, for a processor and ten minutes.")
command_line.define_path(
    "init_from",
    None,
    "Train on from the weights of this finished run. Flags that are not given are those of that "
    "run, --seed excepted; the optimiser, its warm-up and decay and the chains start anew.",
)
command_line.define_path(
    "sample_from",
    None,
    "Do not train: draw --samples from the weights of this finished run. Flags that are not given "
    "are those of that run, --seed excepted.",
)
flags.DEFINE_enum(
    "generative",
    None,
    ["energy_matching", "pcd", "none"],
    "How (image, class) is modelled: by a flow, refined; by persistent chains from noise; not.",
)
flags.DEFINE_enum("loss", "nll", names.LOSSES, "Loss over the classes.")
command_line.define_float("margin", 1.0, "Margin, ceiling or weight gamma of the loss.", 0, np.inf)
flags.DEFINE_integer(
    "steps", None, "Training updates, those of the flow not counted.", lower_bound=0
)
flags.DEFINE_integer(
    "flow_steps",
    None,
    "Updates of the flow, before the others; 0 only with --init_from.",
    lower_bound=0,
)
command_line.define_float("learning_rate", None, "Peak learning rate of Adam.", 1e-9)
command_line.define_float(
    "flow_learning_rate", None, "Peak learning rate of Adam for the flow.", 1e-9
)
command_line.define_float(
    "flow_weight", None, "Weight of the flow beside the loss over classes.", 0
)
command_line.define_float("denoising_weight", None, "Weight of score matching beside the flow.", 0)
command_line.define_float("generative_weight", None, "Weight of the generative part.", 0)
command_line.define_float(
    "data_noise", 0.13, "Standard deviation of the noise on the data modelled.", 1e-3, 10
)
flags.DEFINE_list(
    "channels",
    None,
    "Channels of the convolutions, the last two of which halve the resolution; a single one of "
    "small images does not. With none, as in --channels=, the network is dense.",
)
flags.DEFINE_integer("hidden", None, "Width of the dense hidden layers.", lower_bound=1)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Of the hidden layers' matrix products."
)
flags.DEFINE_enum(
    "sampler", None, ["mala", "baoab"], "How chains move: exactly, or further, with velocities."
)
flags.DEFINE_integer("langevin_steps", None, "Steps of chains between updates.", lower_bound=1)
command_line.define_float(
    "step_size", None, "Step size, in squared grey levels of [0, 1].", 1e-9, 10
)
flags.DEFINE_integer("chains", None, "Chains run at every update.", lower_bound=1)
flags.DEFINE_integer("buffer_size", None, "Persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups", 1, "Equal groups of persistent chains that as many are drawn from.", lower_bound=1
)
command_line.define_float("restart", 0.005, "Fraction of drawn chains restarted.", 0, 1)
flags.DEFINE_integer("samples", None, "Images to draw at the end.", lower_bound=2)
flags.DEFINE_integer(
    "sample_steps", None, "Steps of the samples from noise, a multiple of 10.", lower_bound=10
)
command_line.define_float("sample_beta", 0.8, "Inverse temperature of the samples.", 0.01, 100)
command_line.define_float("guidance", None, "Power of P(y | x) in what the samples follow.", 0, 100)
flags.DEFINE_integer(
    "betas",
    None,
    "Temperatures of the annealing for log Z and the classes' levels; 0 for neither.",
    lower_bound=0,
)
flags.register_validator(
    "sample_steps", lambda n: n is None or n % 10 == 0, "must be a multiple of 10."
)
flags.register_validator(
    "channels",
    lambda widths: widths is None or all(re.fullmatch("[1-9][0-9]*", str(w)) for w in widths),
    "must be integers >= 1, as in 32,64, or nothing.",
)
flags.register_validator("betas", lambda n: n not in (1, 2), "must be 0, or at least 3.")
flags.register_multi_flags_validator(
    ["init_from", "sample_from"],
    lambda chosen: not (chosen["init_from"] and chosen["sample_from"]),
    "--init_from trains and --sample_from does not: give one of them.",
)

GROUPS = {
    "Data": ("data", "data_dir", "outliers", "hold_out_class"),
    "Run": ("workdir", "seed", "quick", "init_from", "sample_from"),
    "Network": ("channels", "hidden", "precision"),
    "Objective": (
        *("loss", "margin", "generative", "generative_weight", "flow_weight"),
        *("denoising_weight", "data_noise"),
    ),
    "Training": ("steps", "flow_steps", "learning_rate", "flow_learning_rate"),
    "Chains": (
        *("sampler", "step_size", "langevin_steps", "chains", "buffer_size", "groups", "restart"),
    ),
    "Samples and likelihood at the end": (
        *("samples", "sample_steps", "sample_beta", "guidance", "betas"),
    ),
    "Devices and processes": ("mesh", "coordinator", "num_processes", "process_id"),
}


def help_text() -> str:
    """Return what --help prints: the flags by group, with the defaults of every size of image."""
    sizes = [defaults(shape, quick) for shape in ((16, 16), (28, 28)) for quick in (False, True)]
    lines = [
        "Flags, as --name=value. A default written A (B) / C (D) is A for images of at most 256",
        "pixels and C for larger ones, B and D with --quick; the weights C and D are those of",
        "28x28 pixels, and --sampler and what chains do also follow --generative.",
    ]
    for title, chosen in GROUPS.items():
        lines += ["", f"{title}:"]
        for name in chosen:
            flag = flags.FLAGS[name]
            allowed = getattr(flag.parser, "enum_values", None)
            lines.append(f"  --{name}" + (f"={'|'.join(allowed)}" if allowed else ""))
            default = _default(name, flag.default, sizes)
            about = re.sub("^<.*?>: ", "", flag.help)  # absl's own list of what is allowed
            about += f" [{default}]" if default else ""
            lines += textwrap.wrap(about, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join([*lines, "", "--helpfull lists the flags of the libraries too."])


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
