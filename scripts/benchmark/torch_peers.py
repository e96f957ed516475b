"""The PyTorch peers, in a process and an interpreter of their own: no JAX is imported here.

A server: it prints the peers that it could import, and then, for every line
``{"peer", "work", "threads", sizes}`` on its standard input, does that work once and prints the
seconds it took.
"""

import functools
import json
import math
import sys
import time

import torch
from torch import nn

STEP_SIZE = 0.01


class EightGaussians(nn.Module):
    """The mixture of workloads.eight_gaussians, over a batch."""

    def __init__(self):
        super().__init__()
        angles = torch.arange(8) * (2 * math.pi / 8)
        means = 4 * torch.stack([torch.cos(angles), torch.sin(angles)], -1)
        self.register_buffer("means", means)

    def forward(self, x):
        """Return the energies, (batch,)."""
        return -torch.logsumexp(-((x[:, None] - self.means) ** 2).sum(-1) / 2, -1)


class Scalar(nn.Module):
    """The first output of a network, without its last axis."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        """Return the energies, (batch,)."""
        return self.body(x)[:, 0]


def mlp():
    """Return 2 -> 128 -> 128 -> 1 with SiLU."""
    return Scalar(
        nn.Sequential(
            nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
        )
    )


def conv():
    """Return 28x28x1 -> 32 -> 64 -> 64 -> 1, strides of 2, with SiLU."""
    layers = []
    for before, after in ((1, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.SiLU()]
    return Scalar(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 1)))


ENERGIES = {"mixture": EightGaussians, "mlp": mlp, "conv": conv}


@functools.cache
def torchebm_chains(work):
    """Return (x, steps) -> x by torchebm's Langevin dynamics."""
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.body = ENERGIES[work]()

        def forward(self, x):
            return self.body(x)

    sampler = LangevinDynamics(Model(), step_size=STEP_SIZE)
    return lambda x, steps: sampler.sample(x=x, n_steps=steps)


@functools.cache
def ebmkit_chains(work):
    """Return (x, steps) -> x by ebmkit's Langevin dynamics."""
    from ebm.samplers import LangevinDynamics

    energy, sampler = ENERGIES[work](), LangevinDynamics(step_size=STEP_SIZE)
    return lambda x, steps: sampler.sample(energy, x, steps=steps)


@functools.cache
def ebmkit_training(steps, buffer_size):
    """Return x -> one update of persistent contrastive divergence by ebmkit."""
    from ebm.buffer import ReplayBuffer
    from ebm.losses.cd import ContrastiveDivergence
    from ebm.samplers import LangevinDynamics

    energy = conv()
    loss = ContrastiveDivergence(
        LangevinDynamics(step_size=STEP_SIZE, steps=steps), ReplayBuffer(buffer_size, (1, 28, 28))
    )
    optimizer = torch.optim.Adam(energy.parameters(), 1e-4)

    def update(x):
        out = loss(energy, x)
        optimizer.zero_grad(set_to_none=True)
        out.loss.backward()
        optimizer.step()

    return update


@functools.cache
def matching(peer, hidden, noise):
    """Return (x, y, few) -> one update of the experiments.images network with a peer's loss.

    A loss over the ten classes of (x, y) and, of the first few, score matching twice: neither peer
    has flow matching by a potential, whose products are the same.
    """
    body = nn.Sequential(
        nn.LazyLinear(hidden),
        nn.SiLU(),
        nn.Linear(hidden, hidden),
        nn.SiLU(),
        nn.Linear(hidden, 10),
    )
    energy = Scalar(body)
    if peer == "ebmkit":
        from ebm.losses.score_matching import DenoisingScoreMatching

        of_energy = DenoisingScoreMatching(noise)

        def denoising(x):
            return of_energy(energy, x).loss
    else:
        from torchebm.core import BaseModel
        from torchebm.losses import DenoisingScoreMatching

        class Model(BaseModel):
            def __init__(self):
                super().__init__()
                self.body = energy

            def forward(self, x):
                return self.body(x)

        denoising = DenoisingScoreMatching(Model(), noise_scale=noise)
    optimizer = None  # until the sizes of the layers are known

    def update(x, y, few):
        nonlocal optimizer
        loss = nn.functional.cross_entropy(-body(x), y)
        loss = loss + denoising(x[:few]) + denoising(x[:few])
        optimizer = optimizer or torch.optim.Adam(body.parameters(), 1e-4)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return update


def do(request):
    """Do a request's work once and return the seconds."""
    torch.set_num_threads(request["threads"])
    if request["work"] == "images":
        update = matching(request["peer"], request["hidden"], request["noise"])
        x, y = torch.rand(request["batch"], request["pixels"]), torch.zeros(request["batch"]).long()
        start = time.perf_counter()
        for _ in range(request["updates"]):
            update(x, y, request["few"])
        return time.perf_counter() - start
    shape = (2,) if request["work"] in ("mixture", "mlp") else (1, 28, 28)
    x = torch.randn(request["chains"], *shape)
    if request["work"] == "train":
        update = ebmkit_training(request["steps"], request["buffer_size"])
        start = time.perf_counter()
        for _ in range(request["updates"]):
            update(x)
        return time.perf_counter() - start
    make = {"torchebm": torchebm_chains, "ebmkit": ebmkit_chains}[request["peer"]]
    chains = make(request["work"])
    start = time.perf_counter()
    chains(x, request["steps"])
    return time.perf_counter() - start


def main():
    """Say which peers there are, then serve."""
    torch.manual_seed(0)
    versions = {"torch": torch.__version__}
    for peer, module in (("torchebm", "torchebm"), ("ebmkit", "ebm")):
        try:
            versions[peer] = getattr(__import__(module), "__version__", "unknown")
        except ImportError:
            continue
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
