import pytest


@pytest.fixture
def program(loaded):
    """Return (name, *flags) -> the module of a program of experiments, its flags set."""
    return lambda name, *flags: loaded(f"experiments.{name}", *flags)
