"""The compiled front is jax.jit in everything but speed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebm_jax
from ebm_jax import compilation


def squares(x):
    return jnp.sum(x**2, axis=-1)


def test_same_numbers_as_jit():
    x = jax.random.normal(jax.random.key(0), (1000, 2))
    np.testing.assert_allclose(ebm_jax.jit(squares)(x), np.sum(np.square(x), -1), rtol=1e-6)


@pytest.mark.parametrize(
    "outer",
    [
        jax.jit,
        jax.vmap,
        jax.grad,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.scan(lambda c, _: (c, f(c)), x, None, length=2)[1][0],
        lambda f: lambda x: jax.jit(lambda: f(x))(),  # inside a trace, no argument is traced
        lambda f: lambda x: jax.jit(lambda y: y - y + f(np.asarray(x)))(1.0),
    ],
)
def test_nests_under_every_transformation(outer):
    x = jnp.asarray(3.0) if outer is not jax.vmap else jnp.arange(3.0)
    front, plain = (outer(jitted(lambda x: x**2 + 1)) for jitted in (ebm_jax.jit, lambda f: f))
    np.testing.assert_array_equal(front(x), plain(x))


def test_the_option_is_applied_at_top_level_only(monkeypatch):
    seen = []
    real_jit = jax.jit

    def spy(fun, **kwargs):
        compiled = real_jit(fun, **kwargs)

        def call(*args):
            seen.append("compiler_options" in kwargs)
            return compiled(*args)

        return call

    compilation._option_is_known()
    monkeypatch.setattr(jax, "jit", spy)
    front = ebm_jax.jit(squares)
    front(jnp.ones(3))
    real_jit(front)(jnp.ones(3))
    assert seen == [jax.default_backend() == "cpu" and compilation._option_is_known(), False]


def test_an_unknown_option_falls_back_silently(monkeypatch):
    monkeypatch.setattr(compilation, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    compilation._option_is_known.cache_clear()
    try:
        assert not compilation._option_is_known()
        assert float(ebm_jax.jit(squares)(jnp.ones(3))) == 3.0
    finally:
        monkeypatch.undo()
        compilation._option_is_known.cache_clear()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the option is the CPU's")
def test_small_reductions_stay_out_of_the_slow_library():
    def fusions(jit):
        lowered = jit(lambda x: jnp.sum(jnp.exp(x), axis=-1)).lower(jnp.ones((10_000, 8)))
        return lowered.compile().as_text().count("__ynn_fusion")

    assert fusions(ebm_jax.jit) == 0
    # Before 0.12 there was no such path. Should it go again, the option may go too.
    if jax.__version_info__ >= (0, 12):
        assert fusions(jax.jit) > 0


def test_takes_what_jit_takes():
    power = ebm_jax.jit(lambda x, n: x**n, static_argnums=1)
    assert float(power(3.0, 2)) == 9.0
    bfloat = ebm_jax.jit(squares, compiler_options={"xla_embed_ir_in_executable": True})
    assert float(bfloat(jnp.ones(2))) == 2.0


def test_keeps_the_name_and_the_doc():
    assert ebm_jax.jit(test_same_numbers_as_jit).__name__ == "test_same_numbers_as_jit"


def test_lower_and_trace_are_those_of_jit():
    front = ebm_jax.jit(squares)
    shape = jax.ShapeDtypeStruct((5, 2), jnp.float32)
    assert front.lower(shape).compile().memory_analysis().argument_size_in_bytes == 40
    assert front.trace(shape).jaxpr.out_avals[0].shape == (5,)
