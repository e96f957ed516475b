"""Where a computation runs: "cpu", "gpu" or "tpu", for what only one of them should do."""

import jax


def platform(leaves: list | None = None) -> str:
    """Return the platform of the first array that is committed to one, else JAX's default.

    The default is ``jax.default_device`` where it is set, else the default backend. While a
    function is traced its arguments have no device, so the default alone decides.
    """
    for leaf in leaves or []:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed:
            return next(iter(leaf.devices())).platform
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if chosen is None:
        return jax.default_backend()
    name = chosen if isinstance(chosen, str) else chosen.platform
    return "gpu" if name in ("cuda", "rocm") else name
