"""Estimators of log Z: their errors on targets whose log Z is exact, at the same cost."""

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax.partition import annealed, bridges, parallel_tempering, paths
from ebm_jax.types import Array, Key
from scripts.benchmark_samplers import annealing
from scripts.benchmark_samplers.methods import ENERGY_COST, Settings
from scripts.benchmark_samplers.running import Protocol, numbers
from scripts.benchmark_samplers.targets import Target

CHAINS = 64  # of one seed in annealing
SETS = 4  # sets of replicas of one seed in tempering
FIRST_REPLICAS = 8  # replicas that the number of scans is planned for
TUNING = 15 / 16  # scans of the tuning of the ladder, per scan of the run that counts
REPLICA_COST = 1.5  # of a replica in one scan: a step, and the energy at its end
PIECE = 8  # inverse temperatures of one compiled call of annealing
TEMPERING = ("tempering_bridge", "thermodynamic_integration")
ESTIMATORS = ("importance_sampling", "ais", "reverse_ais", "smc", "bennett", *TEMPERING)


def _log_mean(log_weights: Array, seeds: int) -> Array:
    rows = log_weights.reshape(seeds, -1)
    return jax.nn.logsumexp(rows, axis=1) - jnp.log(rows.shape[1])


def _importance(along: annealing.Route, key: Key, cost: float, seeds: int) -> Array:
    """Return the log of the mean weight of draws of the base."""
    num = int(cost / ENERGY_COST)

    def one(key: Key) -> Array:
        x = along.base.sample(key, num)
        ends = [jax.vmap(along.path, (None, 0))(jnp.float32(b), x) for b in (0.0, 1.0)]
        return _log_mean(ends[0] - ends[1], 1)[0]

    return ebm_jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(key, seeds))


class _Annealing:
    """Annealing of the chains of all seeds in both directions, compiled once for all lengths."""

    def __init__(self, target: Target, along: annealing.Route, seeds: int) -> None:
        self.target, self.along, self.seeds = target, along, seeds
        self._begin = ebm_jax.jit(self._start, static_argnums=1)
        self._advance = ebm_jax.jit(self._pieces, static_argnums=3)
        self._reweight = ebm_jax.jit(lambda state: annealed.reweight(along.path, state, 0.0))

    def _start(self, key: Key, upward: bool) -> annealed.AnnealedState:
        sample = self.along.base.sample if upward else self.target.exact
        x, beta = sample(key, self.seeds * CHAINS), 0.0 if upward else 1.0
        return annealed.start(self.along.path, self.along.make_sampler, x, beta=beta)

    def _pieces(self, key: Key, state, betas: Array, resample_below: float):
        return annealed.anneal(
            key,
            self.along.path,
            self.along.make_sampler,
            state,
            betas,
            resample_below=resample_below,
            groups=self.seeds,
        )[0]

    def num_betas(self, cost: float) -> int:
        """Return the number of inverse temperatures that a seed's cost pays for."""
        pieces = cost / (CHAINS * float(self.along.cost.total) * PIECE)
        return PIECE * max(1, int(pieces))

    def weights(self, key: Key, cost: float, upward: bool, resample_below: float = 0.0) -> Array:
        """Return the log-weights of all chains, (seeds, chains)."""
        start_key, run_key = jax.random.split(key)
        num = self.num_betas(cost)
        betas = annealing.schedule(num)[1:] if upward else annealing.schedule(num + 1)[-2:0:-1]
        state = self._begin(start_key, upward)
        for piece in betas.reshape(-1, PIECE):
            state = self._advance(run_key, state, piece, resample_below)
        state = state if upward else self._reweight(state)
        return state.log_weights.reshape(self.seeds, -1)

    def estimates(self, key: Key, cost: float) -> dict[str, tuple[Array, float]]:
        """Return the estimates of all seeds and the cost of each estimator."""
        up, down = self.weights(key, cost, True), self.weights(key, cost, False)
        resampled = self.weights(key, cost, True, annealing.RESAMPLE_BELOW)
        half = [self.weights(jax.random.fold_in(key, 1), cost / 2, way) for way in (True, False)]
        both = [bridges.bennett(*sides).log_z for sides in zip(*half, strict=True)]
        each = CHAINS * float(self.along.cost.total)
        spent, halves = each * self.num_betas(cost), 2 * each * self.num_betas(cost / 2)
        return {
            "ais": (_log_mean(up, self.seeds), spent),
            "reverse_ais": (-_log_mean(down, self.seeds), spent),
            "smc": (_log_mean(resampled, self.seeds), spent),
            "bennett": (jnp.stack(both), halves),
        }


def _fixed(path: paths.Path):
    """Return the path as a function of two energies, which it ignores."""

    def given(base, energy) -> paths.Path:
        del base, energy
        return path

    return given


def _tempering(target: Target, along: annealing.Route, path, key: Key, cost: float, seeds: int):
    """Return (stepping stones, thermodynamic integration), (seeds,) each, and the mean cost."""
    per_scan = SETS * REPLICA_COST * (1 + TUNING)
    num = max(16, int(cost / (FIRST_REPLICAS * per_scan)))
    found, costs = [], []
    for seed_key in jax.random.split(key, seeds):
        result = parallel_tempering(
            seed_key,
            along.base,
            target.energy,
            along.make_sampler,
            num_chains=SETS,
            num_scans=num,
            path=path,
        )
        found.append((float(result.log_z), float(result.thermodynamic_integration)))
        costs.append(num * per_scan * len(result.betas))
    bridge, integral = np.array(found).T
    return bridge, integral, float(np.mean(costs))


def rows(target: Target, settings: Settings, protocol: Protocol, seed: int) -> list[dict]:
    """Return a row for every estimator and budget: the errors of log Z of all seeds."""
    along = annealing.route(target, settings.get("step_size", 1.0))
    annealer = _Annealing(target, along, protocol.seeds)
    path, found = _fixed(along.path), []  # made once: others would be compiled again
    for number, budget in enumerate(protocol.budgets):
        cost = budget * protocol.chains
        key = jax.random.fold_in(jax.random.key(seed), 100 + number)
        estimated = {"importance_sampling": (_importance(along, key, cost, protocol.seeds), cost)}
        estimated |= annealer.estimates(key, cost)
        bridge, integral, spent = _tempering(target, along, path, key, cost, protocol.seeds)
        estimated |= {TEMPERING[0]: (bridge, spent), TEMPERING[1]: (integral, spent)}
        found += [
            {
                "method": name,
                "budget": budget,
                "cost": round(spent),
                "errors": numbers(np.asarray(values, float) - target.log_z),
            }
            for name, (values, spent) in estimated.items()
        ]
    return found
