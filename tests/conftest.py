"""How the tests compile: quickly, and what took long once for all runs.

Most of what the tests cost is compilation. LLVM's optimisations repay themselves only where much
is computed, and are what is tested only where rounding is: there a file uses ``optimised``.
"""

import os
from pathlib import Path

import jax
import pytest

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(__file__).parents[1] / ".cache" / "jax"
)
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_disable_most_optimizations", True)
# Programs started by a test use the same.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


@pytest.fixture
def optimised():
    """Compile what a test runs as a user does."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)
