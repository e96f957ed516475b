r"""Run the programs of experiments/questions; write docs/questions.md from their results.

    python -m scripts.questions --workdir=runs/qs

A program whose folder holds its summary.json is not run again. If a claim of a program is false,
the program and this command fail. --programs selects programs and --docs another folder for the
page, which keeps the sections of programs that were not selected. --seeds=3 runs every program with
three seeds: the claims must hold with each, and the page shows their values with each. The text of
the page is in docs/questions.md.template.
"""

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from experiments.run import command_line, entry, errors, work_directory
from scripts.questions import page

QUESTIONS = list(page.parts()[1])

flags.DEFINE_list("programs", QUESTIONS, "Programs to run.")
flags.DEFINE_integer("seeds", 1, "Number of seeds of every program, from --seed.", lower_bound=1)
command_line.define_path("docs", "docs", "Folder of questions.md and figures/.")
FLAGS = flags.FLAGS


def run_program(name: str, folder: Path, seed: int) -> str | None:
    """Run one program unless it is finished; return why it failed, if it did."""
    written = folder / "summary.json"
    if not written.exists():
        command = [sys.executable, "-m", f"experiments.questions.{name}"]
        command += [f"--workdir={folder}", f"--seed={seed}"]
        answer = subprocess.run(command, capture_output=True, text=True)
        if answer.returncode not in (0, errors.FALSE_CLAIM):
            return "\n".join((answer.stderr or answer.stdout).strip().splitlines()[-15:])
    wrong = work_directory.false_claims(json.loads(written.read_text(encoding="utf-8")))
    return f"these claims are false: {'; '.join(wrong)}." if wrong else None


def main() -> None:
    """Run the unfinished programs, then write the page."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the files of the runs.")
    unknown = [name for name in FLAGS.programs if name not in QUESTIONS]
    if unknown:
        raise errors.UsageError(
            f"--programs has {unknown[0]!r}; choose from {', '.join(QUESTIONS)}."
        )
    workdir, started = Path(FLAGS.workdir), time.perf_counter()
    work_directory.make_folder(workdir)
    finished: dict[str, dict[int, Path]] = {}
    failed = []
    for name, seed in itertools.product(
        FLAGS.programs, range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    ):
        folder = workdir / (name if seed == FLAGS.seed else f"{name}_seed{seed}")
        problem = run_program(name, folder, seed)
        if problem:
            failed.append(name if seed == FLAGS.seed else folder.name)
            print(f"failed: {name}, seed {seed}\n{problem}", file=sys.stderr)
        if (folder / "summary.json").exists():
            finished.setdefault(name, {})[seed] = folder
            print(f"{folder.name} done, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    page.write(finished, Path(FLAGS.docs))
    runs = len(FLAGS.programs) * FLAGS.seeds
    print(json.dumps({"finished": runs - len(failed), "failed": failed}), flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    entry.main(main)
