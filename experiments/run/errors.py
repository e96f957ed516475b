"""Exit codes, and the errors that end a program with one sentence.

A program ends with code 0; 1 after bad usage, 2 when training diverged or learnt nothing, 3 when
it finished but one of its claims is false, 75 when a signal (Ctrl-C, SIGTERM, SIGUSR2) stopped it
and the same command resumes it. A sentence on standard error explains every code except 0.
"""

import errno
import os
import sys
from pathlib import Path
from typing import NoReturn

USAGE, DIVERGED, FALSE_CLAIM, STOPPED = 1, 2, 3, 75
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UsageError(ValueError):
    """An error that the user can correct; shown as one sentence, without a traceback."""


class CannotWriteError(UsageError):
    """The work directory is full; the files saved before are intact."""

    def __init__(self, where: Path | str, reason: str) -> None:
        """Compose the message from the path and the reason."""
        super().__init__(
            f"{where} cannot be written ({reason}): free some space or choose another --workdir. "
            "The files saved before are intact; run the same command again to resume."
        )


class StoppedError(Exception):
    """A signal ended the run; the same command resumes it."""


class FalseClaimError(Exception):
    """The run finished, but one of the claims of the program is false."""


def leave(sentence: str, code: int) -> NoReturn:
    """Print a sentence and end with a code."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)


def leave_at_once(sentence: str, code: int) -> NoReturn:
    """Print a sentence and end, without closing files or waiting for other processes."""
    # Files are not closed: their unwritten bytes do not fit, and each would raise an error.
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    os._exit(code)
