"""Bad input is refused with a sentence: every public function x every kind of bad argument.

A row of the table holds a valid call, and for every argument what is refused in its place. The
public functions are read from the package, and their arguments from their signatures: a new one
without a row fails. What only holds data (a NamedTuple, an exception) has none.
"""

import functools
import importlib
import inspect
import pkgutil
import re
import traceback
from pathlib import Path

import jax
import pytest
import rows_distributions
import rows_energies
import rows_inference
import rows_losses
import rows_negatives
import rows_objectives
import rows_partition
import rows_samplers
import rows_through_inference
import rows_training
from kinds import Traced

import ebm_jax

HOME = str(Path(ebm_jax.__file__).parent)
TABLES = (
    rows_losses,
    rows_distributions,
    rows_energies,
    rows_inference,
    rows_samplers,
    rows_partition,
    rows_training,
    rows_negatives,
    rows_objectives,
    rows_through_inference,
)
ROWS = [row for table in TABLES for row in table.ROWS]


def name(function):
    return f"{function.__module__}.{function.__qualname__}"


def public():
    """Return every function, and every class that is more than data, that the package shows."""
    found = {}
    for module in pkgutil.walk_packages(ebm_jax.__path__, "ebm_jax."):
        if "._" in module.name:
            continue
        room = importlib.import_module(module.name)
        shown = {n for n, v in vars(room).items() if getattr(v, "__module__", "") == module.name}
        shown = {n for n in shown if not n.startswith("_")} | set(getattr(room, "__all__", ()))
        for value in (getattr(room, n) for n in shown):
            data = inspect.isclass(value) and issubclass(value, tuple | Exception)
            if inspect.isroutine(value) or (inspect.isclass(value) and not data):
                found[name(value)] = value
    return found


def test_every_public_function_has_a_row_with_every_argument():
    public_functions, tabled = public(), {name(row.function): row for row in ROWS}
    assert len(tabled) == len(ROWS)
    assert sorted(public_functions) == sorted(tabled)
    for function, row in tabled.items():
        parameters = inspect.signature(row.function).parameters.values()
        named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        more = set(row.arguments) - set(named)
        assert set(named) - set(row.arguments) <= {"parent", "name"}, function  # Flax's
        assert not more or any(p.kind == p.VAR_KEYWORD for p in parameters), function


@pytest.fixture(autouse=True)
def whole_tracebacks():
    """JAX takes its own frames out of a traceback: an error of JAX's would look like ours."""
    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "off")
    yield
    jax.config.update("jax_traceback_filtering", before)


def in_a_trace(attempt):
    """Make a call of known values under jit: nothing is computed, and nothing is known better."""
    jax.eval_shape(lambda: (attempt(), None)[1])


def complaint(call, named):
    """Return what is wrong with the refusal of a call, or None."""
    try:
        in_a_trace(call)
    except (ValueError, TypeError) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where, said = f"{Path(last.filename).name}:{last.lineno}", str(error)
        if not last.filename.startswith(HOME):
            return f"raised by {where}, not by the library: {said[:100]}"
        if not said.endswith("."):
            return f"no sentence, {where}: {said}"
        return None if named(said) else f"does not name it, {where}: {said}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} of {last.filename}:{last.lineno}: {str(error)[:100]}"
    return "not refused"


def call(row, **changed):
    """Make the valid call of a row, with some of its arguments changed."""
    given = {argument: arg.valid for argument, arg in row.arguments.items()} | changed
    if not row.several:
        return row.use(row.function(**given))
    parameters = inspect.signature(row.function).parameters.values()
    first = [given.pop(p.name) for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    return row.use(row.function(*first, *row.several, **given))


def refusals(row):
    """Yield (what is bad, the call, the pattern of the sentence)."""
    defaults = inspect.signature(row.function).parameters
    for argument, arg in row.arguments.items():
        pattern = arg.named or rf"\b{argument}\b"
        for bad in arg.bad:
            optional = argument in defaults and defaults[argument].default is None
            if bad is None and optional:
                continue
            if isinstance(bad, Traced):
                changed = functools.partial(lambda n, v: call(row, **{n: v}), argument)
                yield f"{argument} traced", lambda: jax.eval_shape(changed, 3), pattern  # noqa: B023
            else:
                changed = {argument: bad}
                yield f"{argument}={bad!r}"[:80], functools.partial(call, row, **changed), pattern
    for refused, pattern in row.also:
        yield f"one that says {pattern!r}", refused, pattern


@pytest.mark.parametrize("row", ROWS, ids=lambda row: name(row.function))
def test_a_valid_call_is_not_refused(row):
    in_a_trace(functools.partial(call, row))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: name(row.function))
def test_bad_arguments_are_refused_with_a_sentence(row):
    wrong = []
    for what, refused, pattern in refusals(row):
        said = complaint(refused, functools.partial(re.search, pattern))
        if said is not None:
            wrong.append(f"{what}: {said}")
    assert not wrong, "\n" + "\n".join(wrong)
