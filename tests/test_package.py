"""The library stands alone: nothing of the experiments, no global state."""

import subprocess
import sys

FOREIGN = "matplotlib sklearn scipy.optimize tensorboardX arviz_stats submitit experiments"

CHECK = f"""
import sys, jax, flax, chex, optax  # they register options of their own
before = dict(jax.config.values)
import ebm_jax
assert not [m for m in {FOREIGN.split()!r} if m in sys.modules], "imported"
assert dict(jax.config.values) == before, "configuration changed"
assert all(hasattr(ebm_jax, name) for name in ebm_jax.__all__)
"""


def test_importing_the_library_changes_nothing_and_brings_nothing():
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""
