"""Training through inference: a loss on the answer of lowest energy."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array, Key, Objective, Params


def through_inference(
    infer: Callable[[Params, Any, Key], Any], loss: Callable[[Any, Any], Array]
) -> Objective:
    r"""Return the objective of a loss on the answers that inference finds.

    .. math:: L = \operatorname{mean}_i \, \text{loss}(y^\star(\theta, x_i), y_i), \qquad
        y^\star \approx \operatorname{argmin}_y E(\theta, x_i, y)

    Only the energies along the path of the inference are trained, so :math:`e^{-E}` is not a
    likelihood. Source: Belanger et al. (2017), End-to-end learning for structured prediction energy
    networks; Du et al. (2022), Learning iterative reasoning through energy minimization.

    Args:
        infer: function (params, x, key) that returns y for one x, differentiable in the parameters,
            by ``inference.unroll`` or ``inference.implicit_minimum``. The key is for a
            random start and noise.
        loss: function (y, right answer) -> () of one example.

    Returns:
        An ``Objective`` without state, of batches (x, y); metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import inference
    >>> def infer(params, x, key):
    ...     energy = lambda y: (y - params * x) ** 2 / 2
    ...     return inference.unroll(energy, 0.0, step_size=0.5, num_steps=20).position
    >>> objective = through_inference(infer, lambda y, right: (y - right) ** 2)
    >>> x = jnp.arange(4.0)
    >>> value, _ = objective.loss(2.0, (), (x, 2 * x), jax.random.key(0))
    >>> bool(value < 1e-6)
    True
    """
    _checks.function("infer", infer)
    _checks.function("loss", loss)

    def batch_loss(params, state, batch, key):
        given, right = _checks.pair(batch)
        num = _checks.leading_axis("batch", given)

        def one(x, y, own: Key) -> Array:
            return _checks.floating("What loss returns", loss(infer(params, x, own), y))

        each = jax.vmap(one)(given, right, jax.random.split(key, num))
        if each.ndim != 1:
            raise ValueError(
                f"loss must return one number per example, it returned {each.shape[1:]}."
            )
        value = jnp.mean(each)
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), batch_loss)
