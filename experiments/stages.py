"""What a program is doing, told where one piece of work takes long without a step to count."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from experiments import devices


@contextlib.contextmanager
def stage(sentence: str) -> Iterator[None]:
    """Tell on standard error that this work has begun: with its seconds on a terminal, else once.

    Of several processes the first tells.
    """
    console = Console(stderr=True)
    if not devices.is_first():
        yield
    elif console.is_terminal:
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False)
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            task = progress.add_task(sentence, total=1)
            yield
            progress.update(task, completed=1)
    else:
        print(f"{sentence} ...", file=sys.stderr, flush=True)
        yield
