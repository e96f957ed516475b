"""Energies: closed forms, combinators, lattices, Boltzmann machines, networks."""

import jax.numpy as jnp
from kinds import (
    INF,
    KEY,
    NAN,
    Arg,
    allowed,
    count,
    energies,
    energy,
    function,
    nonnegative,
    numbers,
    params,
    positive,
    row,
)

from ebm_jax.energies import boltzmann, closed_forms, combinators, lattice, networks
from ebm_jax.energies.boltzmann import RBM, BoltzmannMachine, CenteredRBM, GaussianRBM
from ebm_jax.energies.closed_forms import (
    DoubleWell,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    Rosenbrock,
)
from ebm_jax.energies.lattice import Ising, Potts

ONE, TWO, THREE = jnp.ones(1), jnp.ones(2), jnp.ones(3)
X = energies(TWO, 1.0, jnp.ones((5, 2)), named="one configuration|x must")
OF_TWO = X._replace(bad=(*X.bad, THREE))
BETA = positive(1.0, INF)
# Parameters of the right kind and the wrong shape or value: the field is named.
WRONG = r"params|mean|precision|log_weights|sigma|barrier|tilt|\b[ab]\b|radius|width|coupling|field"


def closed(kind, valid, *wrong):
    """Parameters of a kind, and some of that kind with a field that is wrong."""
    return params(kind(*valid), *(kind(*w) for w in wrong))._replace(named=WRONG)


GAUSSIAN = closed(Gaussian, (TWO, TWO), (TWO, THREE), (1.0, 1.0), ("m", TWO), (TWO, 1j * TWO))
MIXTURE = closed(
    GaussianMixture,
    (jnp.zeros((3, 2)), THREE, 1.0),
    (TWO, THREE, 1.0),
    ("m", THREE, 1.0),
    (jnp.zeros((3, 2)), TWO, 1.0),
    (jnp.zeros((3, 2)), THREE, TWO),
    (jnp.zeros((3, 2)), THREE, 0.0),
    (jnp.zeros((3, 2)), THREE, NAN),
)
WELL = closed(DoubleWell, (1.0, 0.0), (TWO, 0.0), (1.0, "t"), (1j, 0.0))
VALLEY = closed(Rosenbrock, (1.0, 1.0), (TWO, 1.0), (1.0, None))
WALL = VALLEY._replace(bad=(*VALLEY.bad, Rosenbrock(1.0, 0.0)))
FUNNEL = closed(Funnel, (3.0,), (0.0,), (TWO,), ("s",), (INF,))
RING = closed(Ring, (1.0, 0.5), (1.0, 0.0), (TWO, 0.5), (1.0, "w"))

SPINS, COLOURS = jnp.ones((4, 4), jnp.int8), jnp.zeros((4, 4), jnp.int8)
ISING = closed(Ising, (1.0, 0.0), ("k", 0.0), (TWO, 0.0), (1.0, TWO), (1j, 0.0))
POTTS = closed(Potts, (1.0, THREE), ("k", THREE), (TWO, THREE), (1.0, 0.0), (1.0, jnp.ones((2, 2))))
SITES = numbers(SPINS, SPINS > 0, SPINS[0], SPINS[None])
KINDS = numbers(COLOURS, COLOURS > 0, COLOURS[0], COLOURS[None], 1.0 * COLOURS)

W, V, H = jnp.ones((3, 2)), THREE, TWO
UNITS = r"params|weights|bias|offset|sigma"


def machine(kind, valid, *wrong):
    return closed(kind, valid, *wrong)._replace(named=UNITS)


FULL = machine(BoltzmannMachine, (jnp.ones((3, 3)), V), (W, V), ("w", V), (jnp.ones((3, 3)), 1.0))
OF_RBM = (W, V, H), (W, H, V), (W.T, V, H), ("w", V, H), (W, V, None), (1j * W, V, H)
PLAIN = machine(RBM, *OF_RBM)
CENTERED = machine(CenteredRBM, (W, V, H, V, H), (W, V, H, H, V), (W, V, H, "o", H))
NORMAL = machine(
    GaussianRBM, (*OF_RBM[0], 1.0), *((*p, 1.0) for p in OF_RBM[1:]), (W, V, H, H), (W, V, H, 0.0)
)
VISIBLE = numbers(V, H, V[None], 1.0)
HIDDEN = numbers(H, V, H[None], 1.0)


def temperature(function_, valid, **more):
    return row(function_, params=valid, beta=BETA, **more)


BATCH = jnp.ones((5, 2))


def init(*, x=TWO):
    return lambda network: network.init(KEY, x)


def on_a_batch(network, x=TWO, batch=BATCH):
    return network.apply(network.init(KEY, x), batch)


FEATURES = Arg((4,), (None, 4, "44", (0,), (1.5,), (True,), ("a",)))
ACTIVATION = function(jnp.tanh)
IMAGE = jnp.ones((8, 8, 1))

ROWS = [
    row(closed_forms.gaussian, params=GAUSSIAN, x=OF_TWO),
    row(closed_forms.gaussian_mixture, params=MIXTURE, x=OF_TWO),
    row(closed_forms.double_well, params=WELL, x=X),
    row(closed_forms.rosenbrock, params=VALLEY, x=OF_TWO),
    row(closed_forms.funnel, params=FUNNEL, x=X._replace(bad=(*X.bad, ONE))),
    row(closed_forms.ring, params=RING, x=OF_TWO),
    temperature(closed_forms.log_partition_gaussian, GAUSSIAN),
    row(closed_forms.log_partition_gaussian_mixture, params=MIXTURE),
    temperature(closed_forms.log_partition_rosenbrock, WALL),
    temperature(closed_forms.log_partition_funnel, FUNNEL, dimension=count(2)),
    temperature(closed_forms.log_partition_ring, RING._replace(bad=(*RING.bad, Ring(-1.0, 0.5)))),
    row(
        combinators.product,
        jnp.sum,
        also=[
            (combinators.product, "at least one of the energies"),
            (lambda: combinators.product(jnp.sum, 3), "energies of product must be a function"),
            (lambda: combinators.product(jnp.sum)(1), "energy must be floating"),
            (lambda: combinators.product(jnp.cos)(TWO), r"a scalar \(\), it returned \(2,\)"),
        ],
    ),
    row(
        combinators.mixture,
        jnp.sum,
        also=[
            (combinators.mixture, "at least one of the energies"),
            (lambda: combinators.mixture(jnp.sum, None), "energies of mixture must be a function"),
            (lambda: combinators.mixture(jnp.cos)(TWO), r"a scalar \(\), it returned \(2,\)"),
        ],
        log_weights=numbers(None, 1.0, TWO),
    ),
    row(
        combinators.temper,
        use=lambda tempered: tempered(TWO),
        energy=energy(jnp.sum),
        beta=nonnegative(1.0, INF, TWO),
    ),
    row(
        combinators.condition,
        energy=function(jnp.sum),
        x=allowed(TWO),
    ),
    row(lattice.ising, params=ISING, spins=SITES),
    row(lattice.ising_logits, params=ISING, spins=SITES),
    row(lattice.potts, params=POTTS, colours=KINDS),
    row(lattice.potts_logits, params=POTTS, colours=KINDS),
    row(boltzmann.boltzmann_machine, params=FULL, x=VISIBLE),
    row(boltzmann.boltzmann_machine_logits, params=FULL, x=VISIBLE),
    row(boltzmann.rbm_energy, params=PLAIN, v=VISIBLE, h=HIDDEN),
    row(boltzmann.rbm_free_energy, params=PLAIN, v=VISIBLE),
    row(boltzmann.rbm_hidden_logits, params=PLAIN, v=VISIBLE),
    row(boltzmann.rbm_visible_logits, params=PLAIN, h=HIDDEN),
    row(boltzmann.centered, params=PLAIN, visible_offset=VISIBLE, hidden_offset=HIDDEN),
    row(boltzmann.uncentered, params=CENTERED),
    row(boltzmann.gaussian_rbm_energy, params=NORMAL, v=VISIBLE, h=HIDDEN),
    row(boltzmann.gaussian_rbm_free_energy, params=NORMAL, v=VISIBLE),
    row(boltzmann.gaussian_rbm_hidden_logits, params=NORMAL, v=VISIBLE),
    row(boltzmann.gaussian_rbm_visible_mean, params=NORMAL, h=HIDDEN),
    row(
        networks.MLP,
        use=init(),
        also=[(lambda: on_a_batch(networks.MLP((4,))), r"MLP takes one x.*\(5, 2\): vmap")],
        features=FEATURES,
        activation=ACTIVATION,
    ),
    row(
        networks.JointMLP,
        use=init(),
        also=[
            (lambda: on_a_batch(networks.JointMLP((4,), 3)), r"JointMLP takes one x.*\(5, 2\)"),
            (lambda: networks.JointMLP((4,), 3).init(KEY, "x"), "x must be an array of numbers"),
        ],
        features=FEATURES,
        num_classes=count(3),
        activation=ACTIVATION,
        dtype=Arg(jnp.bfloat16, ("no", jnp.int32, bool, 3, jnp.complex64)),
    ),
    row(
        networks.ConvEnergy,
        use=init(x=IMAGE),
        also=[
            (lambda: networks.ConvEnergy().init(KEY, IMAGE[None]), r"one image.*\(1, 8, 8, 1\)"),
            (lambda: on_a_batch(networks.ConvEnergy((4,)), IMAGE, IMAGE[:4]), "takes one x"),
            (lambda: networks.ConvEnergy().init(KEY, None), "x must be an array of numbers"),
        ],
        features=FEATURES,
        activation=ACTIVATION,
        convolution=function(None),
    ),
    row(
        networks.JointConv,
        use=init(x=IMAGE),
        also=[
            (
                lambda: networks.JointConv((4,), 3, (1,)).init(KEY, IMAGE[None]),
                r"JointConv takes one image.*\(1, 8, 8, 1\)",
            ),
            (
                lambda: on_a_batch(networks.JointConv((4,), 3, (1,)), IMAGE, IMAGE[:4]),
                "JointConv takes one x",
            ),
            (
                lambda: networks.JointConv((4, 4), 3, (1,)).init(KEY, IMAGE),
                r"strides must be as many as features, 2, got \[1\]",
            ),
            (
                lambda: networks.JointConv((4,), 3, (0,)).init(KEY, IMAGE),
                "strides must be at least 1, got 0",
            ),
        ],
        features=FEATURES,
        num_classes=count(3),
        strides=Arg((1,), FEATURES.bad),
        hidden=FEATURES,
        activation=ACTIVATION,
        convolution=function(None),
        dtype=Arg(jnp.bfloat16, ("no", jnp.int32, bool, 3, jnp.complex64)),
    ),
    row(
        networks.free_energy,
        use=lambda marginal: marginal(None, TWO),
        joint=function(
            lambda p, x: x,
            lambda p, x: 1.0,
            lambda p, x: jnp.ones((2, 2)),
            lambda p, x: None,
            lambda p, x: jnp.ones(2, int),
            lambda p, x: "low",
        ),
        beta=nonnegative(1.0, TWO),
    ),
]
