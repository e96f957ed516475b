"""The same chains on one and on two host devices, in a process that has two.

Run as ``python -m scripts.benchmark.devices CHAINS STEPS REPETITIONS``; prints one line of JSON.
"""

import json
import os
import subprocess
import sys


def measure(chains: int, steps: int, repetitions: int) -> dict:
    """Measure in a new process: the number of host devices is fixed when JAX starts."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    found = subprocess.run(
        [
            sys.executable,
            "-m",
            "scripts.benchmark.devices",
            *map(str, (chains, steps, repetitions)),
        ],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def main(chains: int, steps: int, repetitions: int) -> None:
    """Measure here and print."""
    import functools

    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    import ebm_jax
    from ebm_jax import samplers
    from scripts.benchmark import measure, workloads

    ula = functools.partial(samplers.ula, step_size=workloads.STEP_SIZE)
    run = ebm_jax.jit(workloads.ours(ula, lambda _, x: workloads.eight_gaussians(x), steps))
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (chains, 2))
    mesh = Mesh(np.array(jax.devices()[:2]), ("chains",))
    halves = jax.device_put(x, NamedSharding(mesh, PartitionSpec("chains")))
    _, times = measure.interleaved(
        {
            "one device": measure.case(run, None, key, x),
            "two devices": measure.case(run, None, key, halves),
        },
        repetitions,
    )
    same = np.array_equal(np.asarray(run(None, key, x)), np.asarray(run(None, key, halves)))
    print(json.dumps({"times": times, "identical": same}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
