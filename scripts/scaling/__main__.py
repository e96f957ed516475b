"""Measure one process against two, and work out when communication costs more than computing.

    python -m scripts.scaling --docs=docs/scaling.md

Each process is pinned to a core of its own. The chains are those of the benchmark's mixture of
eight Gaussians; two processes divide them and communicate over gloo. The last line is JSON.
"""

from absl import flags

from experiments.run import command_line, entry, errors

flags.DEFINE_integer("chains", 20_000, "Number of chains, over all processes.", lower_bound=2)
flags.DEFINE_integer("steps", 1000, "ULA steps.", lower_bound=1)
flags.DEFINE_integer("repetitions", 5, "Number of measurements of each case.", lower_bound=1)
command_line.define_path("docs", None, "File for the page.")
flags.DEFINE_bool("child", False, "Used internally: run as one of the measured processes.")
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import datetime
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

import ebm_jax
from ebm_jax import samplers
from ebm_jax.energies import networks
from experiments.run import devices
from scripts.benchmark import workloads

DEVICES = 256
FLOPS = 100e12  # a second and device, what a matrix product reaches: an assumption
SIZES = {"MNIST 28x28": ((32, 64, 64), (28, 28, 1)), "CIFAR 32x32": ((64, 128, 256), (32, 32, 3))}
CHAINS, LANGEVIN = 64, 40  # a device and update


def child() -> None:
    """Join, run the chains twice, and print the seconds of the second time."""
    if FLAGS.coordinator:
        devices.join(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    mesh = devices.make_mesh(FLAGS.num_processes)
    start = jax.random.normal(jax.random.key(1), (FLAGS.chains, 2))
    sampler = samplers.ula(workloads.eight_gaussians, step_size=workloads.STEP_SIZE)

    @ebm_jax.jit
    def run(key, x):
        state, _ = samplers.run(key, sampler, sampler.init(x), FLAGS.steps)
        return jnp.mean(state.position)  # of all chains: the processes have to agree

    key, start = devices.place(mesh, jax.random.key(0)), devices.spread(mesh, start)
    jax.block_until_ready(run(key, start))
    began = time.perf_counter()
    jax.block_until_ready(run(key, start))
    print(time.perf_counter() - began, flush=True)


def seconds(num_processes: int) -> float:
    """Return the seconds that num_processes processes take, each pinned to a core."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "scripts.scaling", "--child"),
        *(f"--chains={FLAGS.chains}", f"--steps={FLAGS.steps}"),
    ]
    if num_processes > 1:
        command += [f"--coordinator=localhost:{port}", f"--num_processes={num_processes}"]
    started = [
        subprocess.Popen(
            [*command, f"--process_id={k}"],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda k=k: os.sched_setaffinity(0, {k}),
        )
        for k in range(num_processes)
    ]
    answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise errors.UsageError("one of the measured processes failed.")
    return max(float(answer.splitlines()[-1]) for answer in answers)


def on_paper(features: tuple[int, ...], shape: tuple[int, ...]) -> dict[str, float]:
    """Return the bytes and flops of one PCD update a device, and the link speed where they tie."""
    network = networks.ConvEnergy(features)
    params = network.init(jax.random.key(0), jnp.zeros(shape))
    of_x = jax.jit(jax.grad(network.apply, argnums=1))
    cost = of_x.lower(params, jnp.zeros(shape)).compile().cost_analysis()
    flops = cost["flops"] * CHAINS * (LANGEVIN + 3)  # two batches' gradients by the parameters
    num = sum(leaf.size for leaf in jax.tree.leaves(params))
    moved = 2 * 4 * num * (DEVICES - 1) / DEVICES  # a ring's all-reduce of float32 gradients
    return {
        "parameters": num,
        "megabytes": moved / 1e6,
        "gigaflops": flops / 1e9,
        "gigabytes_per_second": moved / (flops / FLOPS) / 1e9,
    }


def page(one: float, two: float, paper: dict[str, dict[str, float]]) -> str:
    """Return docs/scaling.md."""
    lines = [
        "# Several devices and processes",
        "",
        "    srun --ntasks=8 --gpus-per-task=1 python -m experiments.digits --workdir=runs/big \\",
        "        --coordinator=auto --mesh=8 --groups=8",
        "",
        "`--mesh=8` divides the data and the chains among eight devices, the *mesh*. Every device",
        "has a copy of the parameters, and the gradients are summed over the devices. `--groups=8`",
        "divides the chains into eight groups, each on its own device, so that an update",
        "communicates only gradients. The first process writes the files. Checkpoints do not",
        "depend on the number of processes. Without SLURM, pass `--coordinator=HOST:PORT",
        "--num_processes=2 --process_id=0` to every process, each with its own number.",
        "",
        "One device, a mesh and several processes compute the same training curve up to",
        "rounding. The terms of sums are added in a different order, so the relative",
        "differences are about 1e-6 in float32.",
        "",
        "Several processes that are started without `--coordinator` do not share the work: the",
        "first one locks the work directory, and the others end with an error.",
        "",
        "## When a process ends",
        "",
        "* A signal (SIGTERM, SIGUSR2, Ctrl-C) reaches any process while it trains: all",
        "  processes save a checkpoint and end with code 75. Run the same command again to",
        "  resume.",
        "* A process is killed, or its node fails: the other processes end with code 75 when",
        "  they next communicate with it. The updates since the newest checkpoint are lost and",
        "  computed again. Checkpoints are at least 10 s apart, and further apart where saving",
        "  would take more than 3 % of the time. The failure of a node that does not close its",
        "  connections is noticed after up to 100 s.",
        "* Under SLURM pass `srun --kill-on-bad-exit=1`: SLURM then ends the whole step when",
        "  one process fails.",
        "",
        "## Measured",
        "",
        f"`python -m scripts.scaling --docs=docs/scaling.md` was run on {datetime.date.today()}",
        f"with jax {jax.__version__}, Python {platform.python_version()} and",
        f"{os.cpu_count()} cores, one process per core. {FLAGS.chains:,} chains made",
        f"{FLAGS.steps:,} steps of unadjusted Langevin dynamics ({{term}}`ULA`) in {one:.3f} s",
        f"with one process, and in {two:.3f} s with two processes that communicate",
        f"through the library gloo, {one / two:.2f} times as fast. The times are medians of",
        f"{FLAGS.repetitions} repetitions.",
        "",
        f"## Estimated for {DEVICES} devices",
        "",
        f"One update of persistent contrastive divergence, with {CHAINS} chains per device and",
        f"{LANGEVIN} steps. Floating-point operations (flop) are counted by XLA. The last column",
        "is the link speed at which communication takes as long as computation, for a device that",
        f"computes {FLOPS / 1e12:.0f} Tflop/s; on a slower link communication takes longer.",
        "",
        "| energy | parameters | MB sent per device | Gflop per device | GB/s at equal times |",
        "|---|---|---|---|---|",
    ]
    for name, cells in paper.items():
        shown = [f"{value:,.0f}" if value > 100 else f"{value:.2f}" for value in cells.values()]
        lines.append(f"| {name}, channels {SIZES[name][0]} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure in turn, work out, write."""
    if FLAGS.child:
        child()
        return
    times = [(seconds(1), seconds(2)) for _ in range(FLAGS.repetitions)]
    one, two = (statistics.median(row) for row in zip(*times, strict=True))
    paper = {name: on_paper(*size) for name, size in SIZES.items()}
    if FLAGS.docs:
        Path(FLAGS.docs).write_text(page(one, two, paper), encoding="utf-8")
    print(json.dumps({"speedup_of_two_processes": round(one / two, 2)}))


if __name__ == "__main__":
    entry.main(main)
