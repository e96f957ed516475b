"""What the lines that a part prints add to its results."""

import json
import re
from typing import Any

OUTCOME = re.compile(r"(?:\[gw\d+\] \[[ \d]+%\] )?(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S.*)")
PLAIN = re.compile(r"(tests/\S.*) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
COUNT = re.compile(r"(?:collected (\d+) items?|\[(\d+) items?\])")
FIGURES = ("accuracy", "seconds", "train_seconds", "auroc", "one_nn_accuracy")


def of_suite(line: str) -> dict[str, Any]:
    """Return the results of a suite: {"row": ...}, {"headline": ...}, {"limits": ...}, or {}."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def of_tests(line: str) -> dict[str, Any]:
    """Return the outcome of a test, the number of tests, or nothing."""
    if count := COUNT.search(line):
        return {"collected": int(count[1] or count[2])}
    if plain := PLAIN.match(line):
        return {"test": (plain[1].strip(), plain[2])}
    if outcome := OUTCOME.match(line):
        return {"test": (outcome[2].strip(), outcome[1])}
    return {}


def of_program(line: str) -> dict[str, Any]:
    """Return the summary of a program of experiments, its last line of JSON, or nothing."""
    found = of_suite(line)
    return {"summary": found} if "seconds" in found else {}
