"""Programs run in the test's own process, so that imports and small compilations are shared."""

import importlib
import sys

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

QUICK = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
}


@pytest.fixture(scope="module")
def quick_compilation():
    """A few steps do not repay optimised code; every small program is compiled once for all."""
    before = {name: jax.config.values[name] for name in QUICK}
    for name, value in QUICK.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.clear_caches()


@pytest.fixture
def program():
    """Return (name, *flags) -> the program's module, its flags set.

    Programs have flags of the same names, so each is forgotten after its test, with what it was
    the first to import.
    """
    before = set(sys.modules)

    def load(name, *arguments):
        module = importlib.import_module(f"experiments.{name}")
        for flag in flags.FLAGS:
            flags.FLAGS[flag].unparse()
        flags.FLAGS([name, *arguments])
        return module

    with flagsaver.flagsaver():  # takes away the flags that were defined since
        yield load
    for name in set(sys.modules) - before:
        package, _, child = name.rpartition(".")
        if package == "experiments":
            del sys.modules[name]
            delattr(sys.modules[package], child)
