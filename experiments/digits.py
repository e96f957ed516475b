"""Train one energy F(x, y) of handwritten digits that classifies, generates, detects outliers.

    python -m experiments.digits --workdir=runs/demo

This is ``experiments.images`` on scikit-learn's 1,797 digits of 8x8 pixels, which need no download.
"""

from absl import flags

from experiments.images import flags as image_flags
from experiments.run import command_line, entry

flags.adopt_module_key_flags(image_flags)

command_line.parse(__name__, image_flags.help_text)  # before JAX is imported, which takes seconds

from experiments.images import __main__ as images


def main() -> None:
    """Do as ``images`` does, whose --data are the digits unless said otherwise."""
    images.main()


if __name__ == "__main__":
    entry.main(main)
