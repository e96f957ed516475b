"""Progress on standard error: a bar of updates, or the name of a stage."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bar(
    total: int, describe: str, *, shown: bool = True
) -> tuple[Callable[[int, str], None], Callable[[], None]]:
    """Return (advance, close): a bar with ETA on a terminal, now and then a line elsewhere."""
    if not shown:
        return lambda done, note: None, lambda: None
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(describe),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        shown_bar = Progress(*columns, console=console)
        task = shown_bar.add_task(describe, total=total, note="")
        shown_bar.start()
        return lambda done, note: shown_bar.update(task, completed=done, note=note), shown_bar.stop
    printed = time.perf_counter()
    # The speed is that after the first call: before it are compilation and an interrupted run.
    first: tuple[float, int] | None = None

    def advance(done: int, note: str) -> None:
        nonlocal printed, first
        now = time.perf_counter()
        first = first or (now, done)
        if now - printed > 5 or done == total:
            printed = now
            line = f"{describe} {done}/{total}"
            if done > first[1]:
                left = (now - first[0]) * (total - done) / (done - first[1])
                line += f", {left:.0f} s left"
            print(f"{line}, {note}" if note else line, file=sys.stderr, flush=True)

    return advance, lambda: None


@contextlib.contextmanager
def counted(describe: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of further steps made; show the time left.

    Several threads may call it. Of several processes the first shows it.
    """
    from experiments.run import devices  # imports JAX, which a sweep does without

    advance, close = bar(total, describe, shown=devices.is_first())
    done, lock = 0, threading.Lock()

    def more(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            advance(done, "")

    try:
        yield more
    finally:
        close()


@contextlib.contextmanager
def stage(sentence: str) -> Iterator[None]:
    """Tell on standard error that this work has begun, and how many seconds it takes.

    Of several processes the first tells.
    """
    from experiments.run import devices

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
        started = time.perf_counter()
        yield
        taken = time.perf_counter() - started
        print(f"{sentence}: took {taken:.0f} s", file=sys.stderr, flush=True)
