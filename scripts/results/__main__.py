"""Reproduce the numbers of the digits example, and published reference values.

    python -m scripts.results --workdir=runs/results
    python -m scripts.results --only=rbm_cd25,rbm_15_exact,ising --data_dir=data

Without --only it runs the digits example with several seeds at the default flags, and with each
class of digits held out in turn (unless --held_out=false). It writes docs/digits.md; the last line
has the medians. --only=levels writes the section of that page on the energy that is told the noise
level. Otherwise --only measures the named rows and writes docs/results.md and docs/results.json,
which keep the rows measured before; the last line is {row: its numbers}, for --seeds above 1 those
of the last seed.
A run whose folder holds a summary.json is not repeated, so the same command resumes.
"""

import json
from pathlib import Path

from absl import flags

from experiments import names
from experiments.run import command_line, entry, errors, work_directory
from scripts.results import digits, levels, published

flags.DEFINE_list("only", None, f"Rows to measure: digits, levels, {', '.join(published.ROWS)}.")
command_line.define_path("data_dir", None, names.DATA_DIR)
flags.DEFINE_integer(
    "seeds",
    None,
    "Number of seeds, starting at --seed; if unset, 3 for the digits example and 1 for a row.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "held_out", True, "Also train the digits example with each class held out in turn."
)
command_line.define_path("docs", "docs", "Folder of digits.md, results.md and figures/.")
FLAGS = flags.FLAGS
FLAGS.set_default("workdir", "runs/results")
DIGITS_SEEDS = 3


@flags.validator("only")
def _known(names) -> bool:
    unknown = [n for n in names or () if n not in {*published.ROWS, "digits", "levels"}]
    if unknown or names == []:
        raise flags.ValidationError(
            f"allowed are digits, levels, {', '.join(published.ROWS)} (comma-separated); got "
            f"{','.join(names)!r}"
        )
    return True


def main() -> None:
    """Measure the rows, write the pages, print the results."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the runs.")
    workdir, docs, found = Path(FLAGS.workdir).absolute(), Path(FLAGS.docs), {}
    work_directory.make_folder(workdir)
    for name in FLAGS.only or ["digits"]:
        if name == "digits":
            num_seeds = FLAGS.seeds or DIGITS_SEEDS
            options = {"seed": FLAGS.seed, "num_seeds": num_seeds, "held_out": FLAGS.held_out}
            found[name] = digits.write(workdir, docs, **options)
            continue
        if name == "levels":
            num_seeds = FLAGS.seeds or DIGITS_SEEDS
            found[name] = levels.write(workdir, docs, seed=FLAGS.seed, num_seeds=num_seeds)
            continue
        for seed in range(FLAGS.seed, FLAGS.seed + (FLAGS.seeds or 1)):
            run = published.measure(name, workdir, FLAGS.data_dir, seed)
            print(published.line(name, [run]), flush=True)
            found[name] = run["found"]
            published.write(workdir, docs)
    print(json.dumps(found if FLAGS.only else found["digits"]))


if __name__ == "__main__":
    entry.main(main)
