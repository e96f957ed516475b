r"""Run the programs of experiments/questions; write docs/questions.md from their results.

    python -m scripts.questions --workdir=runs/qs

A program whose folder holds its summary.json is not run again. If a claim of a program is false,
the program and this command fail. --programs selects programs and --docs another folder for the
page. The text of the page is in docs/questions.md.template.
"""

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
    finished, failed = {}, []
    for name in FLAGS.programs:
        problem = run_program(name, workdir / name, FLAGS.seed)
        if problem:
            failed.append(name)
            print(f"failed: {name}\n{problem}", file=sys.stderr)
        if (workdir / name / "summary.json").exists():
            finished[name] = workdir / name
            print(f"{name} done, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    page.write(finished, Path(FLAGS.docs), FLAGS.seed)
    print(json.dumps({"finished": len(FLAGS.programs) - len(failed), "failed": failed}), flush=True)
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    entry.main(main)
