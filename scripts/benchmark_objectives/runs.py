"""Training of one objective: all seeds, or all trials of equal program, as one vmapped program."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import ebm_jax
from ebm_jax import training
from ebm_jax.types import Array, Key, Objective, Params
from experiments.objectives_by_name import Problem, energy_params
from experiments.run import errors
from scripts.benchmark_objectives import cost, problems, samples
from scripts.benchmark_objectives.competitors import Competitor
from scripts.benchmark_objectives.problems import Task

CURVE = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)  # of the budget: where the curve has points
SKIPPED_IN_ROW = 10  # updates that are not finite at the end of a run: it has diverged
LARGEST_GAP = 1000.0  # nats: a run with a larger one has diverged


class Member(NamedTuple):
    """What differs between the trainings of a stack."""

    key: Key
    learning_rate: Array
    options: dict[str, Array]  # those that are ranges


class Data(NamedTuple):
    """The data of a problem as arguments of a program, which all problems of a family share.

    Attributes:
        rows: training rows, and zeros after them up to one number for the family.
        num: number of training rows, ().
        examples: the examples that objectives may look at.
    """

    rows: Array
    num: Array
    examples: Array


class Result(NamedTuple):
    """One training: its measures at the points of its curve, and its share of the seconds.

    Processor seconds are those of all threads; other work on the machine hardly changes them.
    """

    history: list[dict[str, float]]
    curve: list[list[float | None]]
    updates: int
    passes: float
    seconds: float
    processor_seconds: float
    status: str

    @property
    def measures(self) -> dict[str, float]:
        """The measures at the end."""
        return self.history[-1]


class Program:
    """One objective with the options that change the program, for a family of problems.

    Problems of a family differ in their data only. If the objective cannot be traced with its other
    options as arguments, or cannot be vmapped, ``stacked`` is False, ``options`` must have all of
    its options, and members are trained one after another. An objective that a user enters gets the
    examples of its problem as a NumPy array: then the program serves this problem alone.
    """

    def __init__(self, task: Task, competitor: Competitor, options: dict, *, stacked: bool) -> None:
        """Compile nothing yet."""
        self.competitor, self.options, self.stacked = competitor, options, stacked
        self._task, self._shared = task, competitor.entry is None and stacked
        self._ravel, self.unravel = self._flattened()
        self._init = self._mapped(self.init_one, (0, 0, None))
        self._advance = self._mapped(self.advance_one, (0, 0, None, None, None, None))
        self._draw = ebm_jax.jit(self.draw_one)

    def _problem(self, data: Data) -> Problem:
        problem = self._task.problem
        return problem._replace(data=data.examples) if self._shared else problem

    def _mapped(self, function: Callable, axes: tuple) -> Callable:
        if self.stacked:
            return ebm_jax.jit(jax.vmap(function, axes))
        one = ebm_jax.jit(function)

        def loop(*arguments: Any) -> Any:
            """Call it for each member, one after another."""
            results = [
                one(
                    *(
                        _member(value, i) if axis == 0 else value
                        for value, axis in zip(arguments, axes, strict=True)
                    )
                )
                for i in range(len(jax.tree.leaves(arguments[0])[0]))
            ]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

        return loop

    def _flattened(self) -> tuple[Callable, Callable]:
        """Return functions from parameters to one vector and back: it compiles in half the time."""
        shapes = jax.eval_shape(lambda key: self._start(self._task, key), jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        return lambda params: ravel_pytree(params)[0], ravel_pytree(zeros)[1]

    def _start(self, task: Task, key: Key) -> Params:
        """Return what is trained."""
        init_key, start_key = jax.random.split(key)
        return self.competitor.start(task.problem, task.init(init_key), start_key)

    def _trainer(self, member: Member, data: Data, total: Array | int) -> training.Trainer:
        objective = self.competitor.make(self._problem(data), **self.options, **member.options)

        def init(flat: Array, key: Key) -> Any:
            return objective.init(self.unravel(flat), key)

        def loss(flat: Array, state: Any, batch: Array, key: Key) -> tuple:
            return objective.loss(self.unravel(flat), state, batch, key)

        def rate(count: Array) -> Array:
            return member.learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * count / total))

        return training.trainer(Objective(init, loss), optax.adam(rate))

    def init_one(self, flat: Array, member: Member, data: Data) -> training.TrainingState:
        """Return the state before the first update."""
        return self._trainer(member, data, 1).init(flat, jax.random.split(member.key, 3)[1])

    def _batch(self, key: Key, data: Data, step: Array | int) -> Array:
        """Return examples drawn with replacement."""
        key = jax.random.fold_in(key, step)
        return data.rows[jax.random.randint(key, (self.competitor.batch_size,), 0, data.num)]

    def advance_one(self, state: Any, member: Member, data: Data, total, begin, end) -> Any:
        """Make the updates from ``begin`` to ``end`` of ``total``."""
        data_key, train_key = jax.random.split(jax.random.split(member.key, 3)[2])
        step = self._trainer(member, data, total).step

        def one(t: Array, state: Any) -> Any:
            return step(state, self._batch(data_key, data, t), train_key)[0]

        return jax.lax.fori_loop(begin, end, one, state)

    def draw_one(self, params: Params, values: dict, key: Key) -> Array:
        """Return samples of a trained model, where the objective has its own sampler."""
        assert self.competitor.sample is not None
        problem, options = self._task.problem, self.options | values
        return self.competitor.sample(problem, params, options, key, samples.NUM)

    @functools.cached_property
    def _multiplications(self) -> tuple[int, int]:
        """Count multiplications of one update and of one energy; nothing is computed."""
        options = {name: 0.5 * sum(r) for name, r in self._ranges().items()}
        member = Member(jax.random.key(0), jnp.float32(1e-3), options)
        data, key = shapes(self._task), member.key
        flat = jax.eval_shape(lambda key: self._ravel(self._start(self._task, key)), key)
        state = jax.eval_shape(lambda flat, data: self.init_one(flat, member, data), flat, data)

        def update(state: Any, data: Data, key: Key) -> Any:
            return self._trainer(member, data, 1).step(state, self._batch(key, data, 0), key)

        try:
            per_update = cost.multiplications(update, state, data, key)
        except ValueError as error:
            if "unknown length" not in str(error):
                raise
            raise errors.UsageError(f"The cost of an update is unknown. {error}") from error
        params = energy_params(jax.eval_shape(self.unravel, flat))
        x = jax.ShapeDtypeStruct(data.rows.shape[1:], data.rows.dtype)
        return per_update, cost.multiplications(self._task.problem.energy, params, x)

    def _ranges(self) -> dict[str, tuple]:
        search = self.competitor.search
        return {name: r for name, r in search.items() if name not in self.options}  # pyright: ignore

    @property
    def energy_multiplications(self) -> int:
        """Multiplications in the matrix products of one energy of one configuration."""
        return self._multiplications[1]

    @property
    def passes_per_update(self) -> float:
        """Cost of an update in network passes."""
        per_update, energy = self._multiplications
        return max(1.0, per_update / energy)

    def train(self, task: Task, members: Member, passes: float, *, curve: bool) -> list[Result]:
        """Train the members of a stack on a problem for a number of network passes each."""
        updates, data = max(1, round(passes / self.passes_per_update)), arrays(task)
        keys = [jax.random.split(key, 3)[0] for key in members.key]
        flat = jnp.stack([self._ravel(self._start(task, key)) for key in keys])
        states = self._init(flat, members, data)
        states = self._advance(states, members, data, updates, 0, 0)  # compiles
        jax.block_until_ready(states)
        stops = sorted({max(1, round(f * updates)) for f in (CURVE if curve else (1,))})
        begin, seconds, processor_seconds, measured = 0, 0.0, 0.0, []
        for stop in stops:
            began, busy = time.perf_counter(), time.process_time()
            states = self._advance(states, members, data, updates, begin, stop)
            jax.block_until_ready(states)
            seconds += time.perf_counter() - began
            processor_seconds += time.process_time() - busy
            measured.append(self._measure(task, states, members, final=stop == updates))
            begin = stop
        return self._results(states, measured, stops, (seconds, processor_seconds))

    def _measure(self, task: Task, states: Any, members: Member, *, final: bool) -> list[dict]:
        """Return the measures of every member."""
        measured = []
        for i in range(len(states.step)):
            params = energy_params(self.unravel(states.params[i]))
            key = jax.random.fold_in(members.key[i], 1)
            if self.competitor.sample is None:
                found = task.measure(params, key)
            elif final:
                drawn = self._draw(params, _member(members.options, i), key)
                found = samples.measure(task, np.asarray(drawn))
            else:
                found = {"gap": np.nan}
            measured.append({name: float(value) for name, value in found.items()})
        return measured

    def _results(
        self, states, measured: list, stops: list[int], seconds: tuple[float, float]
    ) -> list[Result]:
        num, updates, passes = len(states.step), stops[-1], self.passes_per_update
        results = []
        for i in range(num):
            history = [at[i] for at in measured]
            final = history[-1]
            gaps = np.array([final["gap"], final["validation_gap"]])
            small = bool(np.all(gaps <= LARGEST_GAP))  # NaN is not
            stuck = int(states.skipped_in_row[i]) >= min(SKIPPED_IN_ROW, updates)
            often = 2 * int(states.skipped_total[i]) > updates
            line = [
                [round(stop * passes), number(at["gap"])]
                for stop, at in zip(stops, history, strict=True)
            ]
            status = "diverged" if not small or stuck or often else "ok"
            shares = (round(part / num, 4) for part in seconds)
            results.append(Result(history, line, updates, round(updates * passes), *shares, status))
        return results


def _member(stacked: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def number(value: float, digits: int = 6) -> float | None:
    """Return a number of a row: rounded, None where it is not finite."""
    return round(float(value), digits) if np.isfinite(value) else None


@functools.cache
def arrays(task: Task) -> Data:
    """Return the data of a problem."""
    rows = np.zeros((problems.MOST_ROWS, task.dimension), task.train.dtype)
    rows[: len(task.train)] = task.train
    num = jnp.int32(len(task.train))
    return Data(jnp.asarray(rows), num, jnp.asarray(task.problem.data))


def shapes(task: Task) -> Data:
    """Return the shapes of the data of a problem."""
    return jax.eval_shape(lambda data: data, arrays(task))


def program(task: Task, competitor: Competitor, options: dict, values: dict) -> Program:
    """Return the program of an objective, stacked where it can be traced so.

    Args:
        task: the problem.
        competitor: the objective.
        options: the options that change the program.
        values: the other options; a program that is not stacked binds them.
    """
    stacked = Program(task, competitor, options, stacked=True)
    traced = {name: jnp.full(2, value, jnp.float32) for name, value in values.items()}
    stack = Member(jax.random.split(jax.random.key(0), 2), jnp.full(2, 1e-3), traced)

    def once(keys: Key, data: Data) -> Any:
        flat = jax.vmap(lambda key: stacked._ravel(stacked._start(task, key)))(keys)
        return stacked._advance(stacked._init(flat, stack, data), stack, data, 1, 0, 1)

    try:
        jax.eval_shape(once, stack.key, shapes(task))
    except Exception:  # what cannot be traced is trained alone; an error of its own comes again
        return Program(task, competitor, options | values, stacked=False)
    return stacked


def members(seeds: list[int], rates: list[float], options: list[dict[str, float]]) -> Member:
    """Return a stack; each option becomes an array."""
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    stacked = {
        name: jnp.asarray([values[name] for values in options], jnp.float32)
        for name in (options[0] if options else {})
    }
    return Member(keys, jnp.asarray(rates, jnp.float32), stacked)
