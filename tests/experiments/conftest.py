import importlib.util

import pytest


@pytest.fixture
def program(loaded):
    """Return (name, *flags) -> the module of a program of experiments, its flags set."""

    def load(name, *flags):
        module = f"experiments.{name}"
        if importlib.util.find_spec(module).submodule_search_locations:
            module += ".__main__"
        return loaded(module, *flags)

    return load
