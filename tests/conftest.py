"""How the tests compile: quickly, and once for all runs.

Most of the time of the tests is compilation. LLVM's optimisations repay themselves only where much
is computed, and are what is tested only where rounding is: there a test uses ``optimised``.
JAX_DISABLE_MOST_OPTIMIZATIONS=0 compiles everything as a user does. With jax 0.10 the emitters of
kernels stay the older ones in tests that use ``optimised``.
"""

import collections
import gc
import importlib
import os
import sys
import zlib
from pathlib import Path

import browser
import jax
import pytest
from absl import flags
from absl.testing import flagsaver
from jax._src import compilation_cache

_cache = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax")
)
# However small: operations outside of compiled functions are thousands.
_seconds = os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
_quick = os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"
# The environment is for programs that a test starts. jax 0.10 tells of all it takes from the cache.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# jax 0.10 compiles loops about 40 % faster with its older emitters. Later versions have lost both
# this option and the slow start of the newer emitters.
_emitters = "--xla_cpu_use_fusion_emitters=false"
_flags = os.environ.get("XLA_FLAGS", "")
if _quick and jax.__version_info__ < (0, 11) and _emitters not in _flags:
    os.environ["XLA_FLAGS"] = f"{_flags} {_emitters}".strip()
jax.config.update("jax_compilation_cache_dir", _cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", float(_seconds))
jax.config.update("jax_disable_most_optimizations", _quick)


def remove_entries_cut_short(folder):
    """Remove what a killed process left half written: JAX would warn of it in every run to come.

    JAX writes an entry in place, and none that is there already. Those are looked at that are
    newer than the last look.
    """
    folder.mkdir(parents=True, exist_ok=True)
    marker, started = folder / ".checked", folder / f".checking{os.getpid()}"
    started.touch()  # by the clock of the file system
    since = marker.stat().st_mtime if marker.exists() else 0
    for entry in folder.glob("*-cache"):
        if entry.stat().st_mtime >= since:
            try:
                compilation_cache.decompress_executable(entry.read_bytes())
            except Exception:  # of zlib or of zstandard
                entry.unlink(missing_ok=True)
    started.replace(marker)


if "PYTEST_XDIST_WORKER" not in os.environ:  # once, before the workers start
    remove_entries_cut_short(Path(_cache))
# The CPU's products of float32 have the digits of float32. The variable chooses other products.
if jax.default_backend() != "cpu" and not os.environ.get("JAX_DEFAULT_MATMUL_PRECISION"):
    jax.config.update("jax_default_matmul_precision", "highest")
# Traced programs are many objects, and few of them are cycles: 6 % of the time went to collecting.
gc.set_threshold(50_000, 20, 100)

# Files whose tests are short, but take 20 seconds of processor time or more together: sweeps over
# types, and programs. They count as slow tests, so that the fast ones stay near ten minutes.
SLOW_FILES = {
    "losses/test_extremes.py",
    "samplers/test_ties.py",
    "samplers/test_types_of_states.py",
    "samplers/test_value_types.py",
    "scripts/test_benchmark_objectives.py",
    "scripts/test_benchmark_samplers.py",
    "scripts/test_sweep.py",
    "test_platforms.py",
}


@pytest.hookimpl(tryfirst=True)  # before -m "not slow" selects
def pytest_collection_modifyitems(items):
    """Mark as slow the tests of these files and, of every sweep, all but ``num`` parameters.

    A checksum of their names chooses the fast ones: the choice is the same in every run, and mixes
    the values where a sweep has several parameters.
    """
    here, sweeps = Path(__file__).parent, collections.defaultdict(list)
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here)) in SLOW_FILES:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("sweep"):
            sweeps[item.path, item.originalname].append(item)
    for of_test in sweeps.values():
        (num,) = of_test[0].get_closest_marker("sweep").args
        of_test.sort(key=lambda item: zlib.crc32(item.name.encode()))
        for item in of_test[num:]:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Forget what a file compiled: without this the programs of all files fill 5 GB."""
    yield
    jax.clear_caches()


@pytest.fixture
def optimised():
    """Compile what a test runs as a user does."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", _quick)


@pytest.fixture
def x64():
    """Run a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def loaded():
    """Return (module's name, *flags) -> the module of a program, its flags set, in this process.

    Programs have flags of the same names, so each is forgotten after its test, with what it was
    the first to import.
    """
    before = set(sys.modules)

    def load(name, *arguments):
        module = importlib.import_module(name)
        for flag in flags.FLAGS:
            flags.FLAGS[flag].unparse()
        flags.FLAGS([name, *arguments])
        return module

    with flagsaver.flagsaver():  # takes away the flags that were defined since
        yield load
    for name in sorted(set(sys.modules) - before, reverse=True):  # what is in a package before it
        package, _, child = name.rpartition(".")
        if package.split(".")[0] in ("experiments", "scripts"):
            del sys.modules[name]
            delattr(sys.modules[package], child)


@pytest.fixture(scope="session")
def opened(tmp_path_factory):
    """Return a browser."""
    if not browser.PROGRAM:
        pytest.skip("no browser: apt-get install chromium")
    with browser.Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found
