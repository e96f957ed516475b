r"""Annealed importance sampling, in parts: log Z from chains that follow a path.

.. math:: \log w = \sum_k \left[ E_{k-1}(x_{k-1}) - E_k(x_{k-1}) \right], \qquad
    x_k \sim K_k(\cdot \mid x_{k-1})

where :math:`E_k` is the energy ``path(betas[k], x)``, :math:`x_0` are independent draws of
:math:`\exp(-E_0)`, and the kernel :math:`K_k` leaves :math:`\exp(-E_k)` invariant. Then
:math:`\mathbb{E}[w] = Z_K / Z_0`. Other kernels, such as ULA, bias the weights, so use an exact
sampler such as MALA. The log of the mean weight is below log Z in expectation, and lower still if a
few chains dominate the sum. Chains annealed from exact samples of the target to the base
give an estimate that is above log Z in expectation. Source: R. M. Neal (2001), Annealed importance
sampling, Statistics and Computing 11; Grosse, Ghahramani and Adams (2015), Sandwiching the marginal
likelihood. An example:

    base = distributions.gaussian(mean, sigma)
    path = paths.geometric(distributions.energy(base), energy)
    make_sampler = functools.partial(samplers.mala, step_size=0.1)
    state = annealed.start(path, make_sampler, base.sample(key_0, 100))
    state, _ = annealed.anneal(key_1, path, make_sampler, state, jnp.linspace(0, 1, 1001)[1:])
    estimates.log_partition(key_2, state)

A long run can be split: ``anneal`` with the same key and the next betas continues from a state and
gives the same numbers. In all functions ``path`` is a function (beta (), x) -> () and
``make_sampler`` maps an energy to a ``Sampler``; it is called with
``jax.tree_util.Partial(path, beta)``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import chain_axes, check_chains, take_chains
from ebm_jax.partition.paths import Path
from ebm_jax.samplers import running
from ebm_jax.types import Array, Key, MakeSampler, Position, Sampler


class AnnealedState(NamedTuple):
    """Chains on a path, and their weights.

    Attributes:
        chains: state of the sampler.
        beta: place of the chains on the path, ().
        log_weights: log w, (chains,).
        groups: index of the independent group that each chain is in, (chains,). Every chain is its
            own group until ``anneal`` resamples chains within groups.
        step: number of values of beta passed, ().
    """

    chains: Any
    beta: Array
    log_weights: Array
    groups: Array
    step: Array

    @property
    def position(self) -> Position:
        """The positions of the chains."""
        return self.chains.position


class AnnealedInfo(NamedTuple):
    r"""Statistics of the weights at every beta.

    Attributes:
        log_z: log of the mean weight, log(Z(beta) / Z(start)).
        effective_sample_size: :math:`(\sum w)^2 / \sum w^2`, before resampling, in chains.
        resampled: whether any group of chains was resampled.
    """

    log_z: Array
    effective_sample_size: Array
    resampled: Array


def start(
    path: Path, make_sampler: MakeSampler, positions: Position, *, beta: ArrayLike = 0.0
) -> AnnealedState:
    """Return chains at the beginning of a path, all with weight 1.

    Args:
        path: function (beta (), x) -> ().
        make_sampler: function from an energy to a ``Sampler``.
        positions: independent draws at ``beta``, on the leading axis: of the base at 0, or, for the
            reverse direction, of the target at 1.
        beta: place on the path, ().

    Returns:
        The chains as an ``AnnealedState`` at ``beta``, with log-weights 0.

    >>> import functools, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.5)
    >>> start(lambda b, x: x**2 / 2 * (1 + b), make_sampler, jnp.zeros(3)).log_weights.tolist()
    [0.0, 0.0, 0.0]
    """
    _checks.function("path", path)
    _checks.function("make_sampler", make_sampler)
    num = check_chains(positions)
    beta = _beta(beta, positions)
    # Under jit, so that a sampler does not reject a beta (0, say) at which it cannot move.
    chains = jax.jit(lambda b, x: _bind(path, make_sampler, b).init(x))(beta, positions)
    index = jnp.arange(num, dtype=jnp.int32)
    return AnnealedState(chains, beta, jnp.zeros(num, beta.dtype), index, jnp.zeros((), jnp.int32))


def _bind(path: Path, make_sampler: MakeSampler, beta: Array) -> Sampler:
    bound = jax.tree_util.Partial(path, beta)
    return _checks.sampler("What make_sampler returns", make_sampler(bound))


def _check(path: Path, state: AnnealedState) -> None:
    _checks.function("path", path)
    _checks.state("state", state, AnnealedState)


def _energies(path: Path, beta: Array, positions: Position) -> Array:
    return _checks.energies(lambda x: path(beta, x), positions, "positions")


def _number(name: str, value: ArrayLike) -> Array:
    _checks.finite(name, value)
    given = _checks.array(name, value)
    if given.ndim:
        raise ValueError(f"{name} must be one number, got the shape {given.shape}.")
    return given


def _beta(value: ArrayLike, positions: Position) -> Array:
    """Return beta in its own dtype, else in that of the positions, >= float32.

    The dtype is never weak, so that energies keep their dtype in a loop.
    """
    beta = _number("beta", value)
    if jnp.issubdtype(beta.dtype, jnp.floating) and not beta.weak_type:
        return beta
    kinds = [jnp.result_type(leaf) for leaf in jax.tree.leaves(positions)]
    kinds = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
    kind = (
        jnp.promote_types(jnp.result_type(*kinds), jnp.float32) if kinds else jnp.result_type(float)
    )
    return jax.lax.convert_element_type(beta, kind)


def reweight(path: Path, state: AnnealedState, beta: ArrayLike) -> AnnealedState:
    r"""Return the chains with the weights for another beta, without moving them.

    .. math:: \log w' = \log w + \text{path}(\beta, x) - \text{path}(\beta', x)

    It is the last step in the reverse direction.

    Args:
        path: function (beta (), x) -> ().
        state: chains at :math:`\beta`.
        beta: the new :math:`\beta'`, ().

    Returns:
        ``AnnealedState`` at :math:`\beta'`. A chain with weight 0 keeps it.

    >>> import functools, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> path = lambda beta, x: (1 + beta) * x**2 / 2
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.5)
    >>> begin = start(path, make_sampler, jnp.array([0.0, 2.0]))
    >>> reweight(path, begin, 1.0).log_weights.tolist()
    [0.0, -2.0]
    """
    _check(path, state)
    beta = _number("beta", beta).astype(state.beta.dtype)
    old, new = (_energies(path, b, state.position) for b in (state.beta, beta))
    moved = state.log_weights + (old - new).astype(state.log_weights.dtype)
    moved = jnp.where(state.log_weights == -jnp.inf, -jnp.inf, moved)
    return state._replace(beta=beta, log_weights=moved)


def anneal(
    key: Key,
    path: Path,
    make_sampler: MakeSampler,
    state: AnnealedState,
    betas: ArrayLike,
    *,
    num_steps: int = 1,
    resample_below: float = 0.0,
    groups: int = 1,
) -> tuple[AnnealedState, AnnealedInfo]:
    """Anneal the chains: at each beta, update the weights and make sampler steps.

    With resampling this is sequential Monte Carlo: if the effective sample size of a group of
    chains falls below a fraction of the group, chains with large weights replace chains with small
    ones (systematic resampling), and the group continues with its mean weight. Chains of one group
    are then dependent. Groups stay independent, and the error of log Z is estimated from their
    spread, so use several groups, for example 20. Source: Del Moral, Doucet and Jasra (2006),
    Sequential Monte Carlo samplers, JRSS B 68(3).

    Args:
        key: a key of ``jax.random.key``; the same for all pieces of one run.
        path: function (beta (), x) -> ().
        make_sampler: function from an energy to a ``Sampler``; its state is refreshed at every
            beta.
        state: state from ``start``, or from the previous piece.
        betas: values after ``state.beta``, in increasing or decreasing order, (n,).
        num_steps: number of sampler steps at each beta, >= 1.
        resample_below: fraction in [0, 1]; 0 never resamples, 1 always does.
        groups: number of blocks of neighbouring chains, each resampled separately; it must divide
            the number of chains and be the same for all pieces of one run.

    Returns:
        The state at the last beta, and ``AnnealedInfo``, (n,) each.

    Raises:
        ValueError: if betas are not a vector, num_steps < 1, resample_below is outside [0, 1], or
            groups do not divide the chains equally.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> path = lambda beta, x: (1 + 3 * beta) * x**2 / 2
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.3)
    >>> begin = start(path, make_sampler, jax.random.normal(jax.random.key(0), (1000,)))
    >>> betas = jnp.linspace(0, 1, 21)[1:]
    >>> end, _ = anneal(jax.random.key(1), path, make_sampler, begin, betas)
    >>> abs(float(jnp.exp(end.log_weights).mean()) - 0.5) < 0.02  # sqrt(1 / 4)
    True
    """
    _checks.one_key(key)
    _check(path, state)
    _checks.function("make_sampler", make_sampler)
    _checks.count("num_steps", num_steps)
    _checks.fraction("resample_below", resample_below)
    _checks.scalar("resample_below", resample_below)
    _checks.finite("betas", betas)
    num = state.log_weights.shape[0]
    if num % _checks.count("groups", groups):
        raise ValueError(f"groups must divide the {num} chains equally, got {groups}.")
    betas = jnp.asarray(betas, state.beta.dtype)
    if betas.ndim != 1:
        raise ValueError(f"betas must be a vector, got the shape {betas.shape}.")

    def to(state: AnnealedState, beta: Array) -> tuple[AnnealedState, AnnealedInfo]:
        move_key, resample_key = jax.random.split(jax.random.fold_in(key, state.step))
        state = reweight(path, state, beta)
        info = _summary(state.log_weights)
        if resample_below:
            sizes = jax.vmap(_effective_sample_size)(state.log_weights.reshape(groups, -1))
            chosen = sizes <= resample_below * (num // groups)
            state = _resample(resample_key, path, make_sampler, state, chosen)
            info = info._replace(resampled=jnp.any(chosen))
        sampler = _bind(path, make_sampler, beta)
        chains = running.refresh(sampler, state.chains)
        if num_steps == 1:  # no loop: what the weights computed serves the move
            chains, _ = sampler.step(move_key, chains)
        else:
            chains, _ = running.run(move_key, sampler, chains, num_steps)
        return state._replace(chains=chains, step=state.step + 1), info

    return jax.lax.scan(to, state, betas)


def _summary(log_weights: Array) -> AnnealedInfo:
    log_z = jax.nn.logsumexp(log_weights) - jnp.log(log_weights.shape[0])
    return AnnealedInfo(log_z, _effective_sample_size(log_weights), jnp.zeros((), bool))


def _effective_sample_size(log_weights: Array) -> Array:
    log_sum, log_squares = (jax.nn.logsumexp(k * log_weights) for k in (1, 2))
    return jnp.where(log_sum == -jnp.inf, 0.0, jnp.exp(2 * log_sum - log_squares))


def _resample(key: Key, path, make_sampler, state: AnnealedState, chosen: Array) -> AnnealedState:
    """Return the chosen groups (groups,) resampled, each with its mean weight."""
    log_weights = state.log_weights.reshape(len(chosen), -1)
    groups, size = log_weights.shape
    shares = jnp.cumsum(jax.nn.softmax(log_weights), axis=1)
    offset = 1 - jax.random.uniform(key, (groups, 1), shares.dtype)  # > 0: no chain of weight 0
    points = (jnp.arange(size, dtype=shares.dtype)[None] + offset) / size
    shares = shares / shares[:, -1:]  # the last share is 1 up to rounding
    drawn = jnp.minimum(jax.vmap(jnp.searchsorted)(shares, points), size - 1)
    index = jnp.where(chosen[:, None], drawn, jnp.arange(size, dtype=drawn.dtype)[None])
    index = (index + size * jnp.arange(groups)[:, None]).reshape(-1)
    axes = chain_axes(lambda x: _bind(path, make_sampler, state.beta).init(x), state.position)
    mean = jax.nn.logsumexp(log_weights, axis=1, keepdims=True) - jnp.log(size)
    return state._replace(
        chains=take_chains(state.chains, index, axes, groups),
        log_weights=jnp.where(chosen[:, None], mean, log_weights).reshape(-1),
        groups=_joined(state.groups, groups, jnp.any(chosen)),
    )


def _joined(old: Array, groups: int, resampled: Array) -> Array:
    """Return the groups of the chains; one for all if another piece had others."""
    index = jnp.arange(old.shape[0], dtype=old.dtype)
    blocks = index // (old.shape[0] // groups)
    same = jnp.all(old == index) | jnp.all(old == blocks)
    return jnp.where(resampled, jnp.where(same, blocks, 0), old)


def choose_betas(
    key: Key,
    path: Path,
    make_sampler: MakeSampler,
    positions: Position,
    *,
    fraction: float,
    max_betas: int,
    num_steps: int = 1,
) -> tuple[Array, Array]:
    r"""Choose the values of beta for annealing, in an adaptive pilot run.

    .. math:: \frac{\text{CESS}(\beta')}{n} = \frac{(\sum_i W_i u_i)^2}{\sum_i W_i u_i^2},
        \qquad u_i = \exp(\text{path}(\beta, x_i) - \text{path}(\beta', x_i))

    CESS is the conditional effective sample size of one step, n the number of chains and
    :math:`W_i` the normalised weights. Each :math:`\beta'` is chosen so that CESS / n is
    ``fraction``. Use another key for the run itself: betas chosen from the same chains would bias
    the weights. Source: Zhou, Johansen and Aston (2016), Toward automatic model comparison: an
    adaptive sequential Monte Carlo approach, JCGS 25(3).

    Args:
        key: a key of ``jax.random.key``, used once.
        path: function (beta (), x) -> ().
        make_sampler: function from an energy to a ``Sampler``, as in ``anneal``.
        positions: draws of the base, on the leading axis.
        fraction: conditional effective sample size per chain, in (0, 1); larger values give more
            betas.
        max_betas: maximum number of betas, >= 1.
        num_steps: number of sampler steps at each beta, >= 1.

    Returns:
        The betas, (max_betas,), increasing from the first after 0 to 1 and padded with 1; and their
        number, (): use ``betas[:num]``. If max_betas is too small, the last step jumps to 1. If the
        energy of a chain is NaN, the last beta is NaN.

    Raises:
        ValueError: if fraction is outside (0, 1), or max_betas or num_steps < 1.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> path = lambda beta, x: (1 + 99 * beta) * x**2 / 2
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.01)
    >>> x = jax.random.normal(jax.random.key(0), (1000,))
    >>> betas, num = choose_betas(jax.random.key(1), path, make_sampler, x, fraction=0.9,
    ...                           max_betas=50)
    >>> betas.shape, 5 < int(num) < 30, float(betas[-1])
    ((50,), True, 1.0)
    """
    _checks.one_key(key)
    _checks.function("path", path)
    _checks.inside("fraction", fraction)
    _checks.count("max_betas", max_betas)
    _checks.count("num_steps", num_steps)

    def next_beta(state: AnnealedState) -> Array:
        old = _energies(path, state.beta, state.position)

        def enough(beta: Array) -> Array:
            gain = old - _energies(path, beta, state.position)
            log_w = state.log_weights
            gain = jnp.where(log_w == -jnp.inf, 0.0, gain)
            zeroth, first, second = map(jax.nn.logsumexp, (log_w, log_w + gain, log_w + 2 * gain))
            return 2 * first - zeroth - second >= jnp.log(fraction)

        def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = (low + high) / 2
            fine = enough(middle)
            return jnp.where(fine, middle, low), jnp.where(fine, high, middle)

        one = jnp.ones_like(state.beta)
        low, high = jax.lax.fori_loop(0, 24, halve, (state.beta, one))
        # At least the next float, so that every step makes progress.
        found = jnp.where(enough(one), one, jnp.where(low > state.beta, low, high))
        return jnp.where(jnp.any(jnp.isnan(old)), jnp.nan, found)  # which ends the loop

    def body(carry: tuple) -> tuple:
        state, betas, num = carry
        found = next_beta(state)
        beta = jnp.where((num == max_betas - 1) & ~jnp.isnan(found), 1.0, found)
        state, _ = anneal(key, path, make_sampler, state, beta[None], num_steps=num_steps)
        return state, betas.at[num].set(beta), num + 1

    state = start(path, make_sampler, positions)
    betas = jnp.ones(max_betas, state.beta.dtype)
    carry = state, betas, jnp.zeros((), jnp.int32)
    _, betas, num = jax.lax.while_loop(lambda c: c[0].beta < 1, body, carry)
    return betas, num
