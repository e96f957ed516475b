"""A persistent compilation cache: the second run of the suite compiles nothing again."""

import os
from pathlib import Path

import jax
import pytest

_cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(
    Path(__file__).parents[1] / ".cache" / "jax"
)
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
# Programs started by a test use the same cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache)


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)
