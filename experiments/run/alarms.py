"""Alarms: conditions of the metrics that indicate a problem, with its likely cause and a remedy."""

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

FEW = 5  # rows of a run before rows are compared


class Alarm(NamedTuple):
    """A condition on the values of a metric (one per row, the newest last), and advice."""

    metric: str
    rings: Callable[[np.ndarray], bool]
    sentence: str


ALARMS = (
    Alarm(
        "chains_nonfinite",
        lambda values: values[-1] > 0.01,
        "chains become non-finite, because the energy is too steep for the step size: lower "
        "--step_size or --learning_rate",
    ),
    Alarm(
        "acceptance_rate",
        lambda values: values[-1] < 0.1,
        "the chains are stuck: fewer than 10 % of the proposals are accepted; lower --step_size",
    ),
    Alarm(
        "chains_ready",
        lambda values: values[-1] < 0.5,
        "more than half of the persistent chains restarted recently and do not count yet: "
        "lower --restart, or raise --langevin_steps",
    ),
    Alarm(
        "energy_gap",
        lambda values: (
            len(values) > FEW
            and abs(values[-1]) > 100
            and abs(values[-1]) > 20 * np.median(np.abs(values[:-1]))
        ),
        "the energy gap between data and chains has exploded: lower --learning_rate, or raise "
        "--langevin_steps",
    ),
    Alarm(
        "gradient_norm",
        lambda values: len(values) > FEW and values[-1] <= 1e-8 * max(values),
        "the gradients have vanished, because every example satisfies the loss: raise --margin, or "
        "use fewer --steps",
    ),
)


def sick(rows: list[dict[str, float]]) -> Iterator[tuple[str, str]]:
    """Yield (metric, sentence) of every alarm that the rows of a run, the newest last, ring.

    A metric is known by the last part of its name: a sum of objectives has one of each.
    """
    for name in rows[-1]:
        values = np.array([row[name] for row in rows if name in row])
        if not np.isfinite(values[-1]):
            continue  # such updates are skipped, and counted
        for alarm in ALARMS:
            if _is(name, alarm.metric) and alarm.rings(np.nan_to_num(values)):
                yield name, alarm.sentence


def _is(name: str, metric: str) -> bool:
    if metric == "gradient_norm":  # a part's own is that of its chains
        return name == metric
    return name.rsplit("/", 1)[-1] == metric


def in_history(name: str, history: dict[str, np.ndarray]) -> list[str]:
    """Return every alarm that the history of a training rang, in order, each once."""
    rung = []
    for metric, values in history.items():
        known = np.nan_to_num(values)
        for alarm in (alarm for alarm in ALARMS if _is(metric, alarm.metric)):
            for at in np.flatnonzero(np.isfinite(values)):
                if alarm.rings(known[: at + 1]):
                    step = int(history["step"][at])
                    rung.append((step, sentence(name, step, metric, values[at], alarm.sentence)))
                    break
    return [text for _, text in sorted(rung)]


def sentence(name: str, step: int, metric: str, value: float, advice: str) -> str:
    """Return an alarm in words."""
    return f"{name or 'training'} after update {step}: {metric} {value:.3g}; {advice}."


def tell(sentences: list[str]) -> None:
    """Print alarms on standard error."""
    for text in sentences:
        print(f"alarm: {text}", file=sys.stderr)


class Watch:
    """Tells every alarm of a training once."""

    def __init__(self, name: str) -> None:
        """Begin to watch a training of this name."""
        self._name, self._told = name, set()

    def look(self, rows: list[dict[str, float]]) -> None:
        """Print the alarms that the newest row raises for the first time."""
        for metric, advice in sick(rows):
            if (metric, advice) not in self._told:
                self._told.add((metric, advice))
                step, value = int(rows[-1]["step"]), rows[-1][metric]
                tell([sentence(self._name, step, metric, value, advice)])
