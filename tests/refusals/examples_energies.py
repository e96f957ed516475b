"""Energies: closed forms, combinators, lattices, Boltzmann machines, networks; distributions."""

import jax.numpy as jnp
import rules as r
from rules import INF, NAN, changed, example, examples, only, plus, result

from ebm_jax import distributions
from ebm_jax.energies import boltzmann, combinators, lattice, networks, pairwise, potts
from ebm_jax.energies import closed_forms as forms

ONE, TWO, THREE, BATCH = jnp.ones(1), jnp.ones(2), jnp.ones(3), jnp.ones((5, 2))
POINT = plus(TWO, 1.0, BATCH, TWO.astype(int), TWO > 0, 1j * TWO, named="one configuration|x must")
OF_TWO, OF_MORE = POINT._replace(bad=(*POINT.bad, THREE)), POINT._replace(bad=(*POINT.bad, ONE))
W, V, H, SPINS = jnp.ones((3, 2)), THREE, TWO, jnp.ones((4, 4), jnp.int8)
SITES = plus(SPINS, SPINS > 0, SPINS[0], SPINS[None])
KINDS = plus(SPINS, SPINS > 0, SPINS[0], SPINS[None], 1.0 * SPINS)
SEQUENCE = jnp.array([0, 1, 1])
SEQUENCE = plus(SEQUENCE, SEQUENCE[None], SEQUENCE[:2], 0, 1.0 * SEQUENCE, SEQUENCE + 1)
OF_V, OF_H = plus(V, H, V[None], 1.0), plus(H, V, H[None], 1.0)
POTTS = lattice.Potts(1.0, THREE)  # with a field of any number of colours
NO_POTTS = [p for p in r.of_tuple(POTTS, True) if jnp.shape(getattr(p, "field", 0)) != (5,)]
POTTS = only(POTTS, *NO_POTTS, lattice.Potts(1.0, 0.0))
CHAIN = changed(pairwise.Pairwise(TWO, V), couplings=[V], fields=[jnp.ones((3, 0))])
DENSE = potts.DensePotts(jnp.ones((3, 2, 3, 2)), jnp.ones((3, 2)))
DENSE = changed(DENSE, fields=[THREE], couplings=[jnp.ones((3, 2, 2, 3))])
FULL = changed(boltzmann.BoltzmannMachine(jnp.ones((3, 3)), V), weights=[W])
PLAIN = changed(boltzmann.RBM(W, V, H), weights=[W.T], hidden_bias=[None])
NORMAL = changed(boltzmann.GaussianRBM(W, V, H, 1.0), weights=[W.T], sigma=[0.0])
OF_COLOURS = boltzmann.CategoricalRBM(jnp.ones((3, 2, 2)), jnp.ones((3, 2)), H)
CATEGORICAL = changed(OF_COLOURS, weights=[W], visible_bias=[V])
MIXTURE = changed(forms.GaussianMixture(jnp.zeros((3, 2)), THREE, 1.0), sigma=[0.0, NAN])
GAUSSIAN = plus(forms.Gaussian(TWO, TWO), forms.Gaussian(1.0, 1.0))
RBMS = "rbm_energy rbm_free_energy rbm_hidden_logits rbm_visible_logits"

IMAGE = jnp.ones((8, 8, 1))
# A network keeps its functions and types until Flax calls them.
FLAX = {"features": (4,), "activation": only(jnp.tanh, *r.FUNCTIONS)}
CONV = FLAX | {"at": IMAGE, "convolution": only(*r.FUNCTIONS)}


MEAN = jnp.zeros(2)
INFINITE = (jnp.array([0.0, INF]), jnp.array([0.0, NAN]))
STANDARD = distributions.gaussian(MEAN, 1.0)
REAL_OR_POSITIVE = (*r.NUMBERS, -1.0, NAN, 0.0, INF, THREE, jnp.ones((1, 2)))


ROWS = [
    example(forms.gaussian, params=GAUSSIAN, x=OF_TWO),
    example(forms.gaussian_mixture, params=MIXTURE, x=OF_TWO),
    example(forms.double_well, params=forms.DoubleWell(1.0, 0.0), x=POINT),
    example(forms.rosenbrock, params=forms.Rosenbrock(1.0, 1.0), x=OF_TWO),
    example(forms.funnel, params=changed(forms.Funnel(3.0), sigma=[0.0, INF]), x=OF_MORE),
    example(forms.ring, params=changed(forms.Ring(1.0, 0.5), width=[0.0]), x=OF_TWO),
    example(
        combinators.product,
        jnp.sum,
        weights=only(None, "three", 1.0, TWO, jnp.array([NAN]), jnp.array([INF])),
    ),
    example(combinators.mixture, jnp.sum, log_weights=plus(None, 1.0, TWO)),
    example(combinators.temper, use=lambda e: e(TWO), beta=plus(1.0, INF)),
    example(combinators.condition, energy=only(jnp.sum, *r.FUNCTIONS), x=only(TWO)),
    *examples(lattice, "ising ising_logits", params=lattice.Ising(1.0, 0.0), spins=SITES),
    *examples(lattice, "potts potts_logits", params=POTTS, colours=KINDS),
    *examples(potts, "dense_potts dense_potts_logits", params=DENSE, x=SEQUENCE),
    example(potts.zero_sum_gauge, params=DENSE),
    example(potts.lattice_gas_gauge, params=DENSE, reference=only(-1, *r.NUMBERS, 0.0, 2, -3)),
    *examples(pairwise, "energy logits", params=CHAIN, x=OF_V, edges=plus([[0, 1], [1, 2]], [])),
    *examples(boltzmann, "boltzmann_machine boltzmann_machine_logits", params=FULL, x=OF_V),
    *examples(boltzmann, RBMS, params=PLAIN, v=OF_V, h=OF_H),
    example(boltzmann.gaussian_rbm_visible_mean, params=NORMAL, h=OF_H),
    *examples(networks, "MLP JointMLP", **FLAX, dtype=jnp.bfloat16),
    example(networks.ConvEnergy, **CONV),
    example(networks.JointConv, **CONV, strides=(1,), hidden=(4,), dtype=jnp.bfloat16),
    example(
        networks.free_energy,
        use=lambda marginal: marginal(None, TWO),
        joint=plus(lambda p, x: x, *map(result, (1.0, jnp.ones((2, 2)), jnp.ones(2, int)))),
    ),
    example(
        distributions.gaussian,
        mean=plus(MEAN, NAN * MEAN, INF),
        sigma=only(1.0, *REAL_OR_POSITIVE),
        covariance=only(None, jnp.eye(2)),
    ),
    example(
        distributions.uniform,
        low=plus(MEAN, NAN, -INF, 1.0, 2.0, jnp.array([0.0, 1.0]), jnp.zeros(3)),
        high=plus(jnp.ones(2), NAN, INF, 0.0, -1.0, jnp.array([1.0, 0.0]), jnp.ones(3)),
    ),
    example(distributions.bernoulli, logits=plus(MEAN, *INFINITE)),
    example(
        distributions.categorical,
        logits=plus(jnp.zeros((2, 2)), *INFINITE, 1.0, *map(jnp.zeros, ((2, 3), (2, 0), (4, 3)))),
        values=plus((0, 1), (0, 1, 2)),
    ),
    example(
        distributions.mixture,
        components=only([STANDARD] * 2, None, 1.0, STANDARD, [], [STANDARD, None], [MEAN]),
        weights=only(TWO, *r.NUMBERS[1:], -1.0, NAN, INF, 0.0, 1.0, THREE, jnp.array([1.0, 0])),
    ),
    example(distributions.energy, use=lambda e: e(MEAN), distribution=STANDARD),
]
