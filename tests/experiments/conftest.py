"""Programs run in the test's own process, so that imports and compilations are shared."""

import importlib
import sys

import pytest
from absl import flags
from absl.testing import flagsaver


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
