"""Bad input is refused with a sentence: every public function, every argument, many bad values.

A new function is covered where each of its arguments has a default or a valid value by its name
(``rules.BY_NAME``). For others add ``example(function, argument=valid_value)`` to ``ROWS`` in the
file ``examples_*.py`` of its package. The refused values follow from the annotation, the name and
the valid value (``rules.rule``). Write ``argument=plus(valid_value, bad, worse)`` to refuse more
values, and ``only(valid_value, bad)`` where the rules do not apply. An argument without a valid
value or a rule fails; NamedTuples and exceptions need no row.
"""

import functools
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest
from rules import Traced, call, example

import ebm_jax

# Of JAX, whose shapes of None and of lists will be errors of another kind.
pytestmark = pytest.mark.filterwarnings("error:.* requires ndarray or scalar:DeprecationWarning")
HOME = str(Path(ebm_jax.__file__).parent)
EXAMPLES = sorted(Path(__file__).parent.glob("examples_*.py"))
ROWS = [row for path in EXAMPLES for row in importlib.import_module(path.stem).ROWS]


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


PUBLIC, WRITTEN = public(), {name(row.function) for row in ROWS}
ROWS += [example(function) for own, function in sorted(PUBLIC.items()) if own not in WRITTEN]


def test_every_public_function_has_a_row_with_every_argument():
    tabled = {name(row.function): row for row in ROWS}
    assert len(tabled) == len(ROWS)
    assert sorted(PUBLIC) == sorted(n for n in tabled if "<locals>" not in n)  # of a Trainer
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
    except Exception as error:
        last, said = error.__traceback__, str(error)
        while last.tb_next:
            last = last.tb_next
        file = last.tb_frame.f_code.co_filename
        where = f"{type(error).__name__} of {file}:{last.tb_lineno}: {said[:100]}"
        if not isinstance(error, ValueError | TypeError) or not file.startswith(HOME):
            return f"not an error of the library, {where}"
        if not said.endswith("."):
            return f"no sentence, {where}"
        return None if named(said) else f"does not name it, {where}"
    return "not refused"


def attempt(row, **changed):
    """Make the valid call of a row, with some of its arguments changed."""
    given = {argument: arg.valid for argument, arg in row.arguments.items()} | changed
    return row.use(call(row.function, row.several, given))


def refusals(row):
    """Yield (what is bad, the call, the pattern of the sentence)."""
    for argument, arg in row.arguments.items():
        for bad in arg.bad:
            changed = functools.partial(lambda n, v: attempt(row, **{n: v}), argument)
            if isinstance(bad, Traced):
                refused = functools.partial(jax.eval_shape, changed, bad.value)
                yield f"{argument} traced", refused, arg.named
            else:
                refused = functools.partial(changed, bad)
                named = arg.named
                if all(type(value) in (int, float) for value in (bad, arg.valid)):
                    named = f"(?:{named}).*{re.escape(str(bad))}"  # the error states the number
                yield f"{argument}={bad!r}"[:80], refused, named
    for refused, pattern in row.also:
        yield f"one that says {pattern!r}", refused, pattern


@pytest.mark.parametrize("row", ROWS, ids=lambda row: name(row.function))
def test_a_valid_call_is_not_refused(row):
    in_a_trace(functools.partial(attempt, row))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: name(row.function))
def test_bad_arguments_are_refused_with_a_sentence(row):
    wrong = []
    for what, refused, pattern in refusals(row):
        said = complaint(refused, functools.partial(re.search, pattern))
        if said is not None:
            wrong.append(f"{what}: {said}")
    assert not wrong, "\n" + "\n".join(wrong)
