"""The documentation site: ``scripts/docs`` builds it."""

import re

from jax.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import ebm_jax

project = "ebm_jax"
author = "The ebm_jax authors"
release = version = ebm_jax.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx-mathjax-offline",
]
html_theme = "sphinx_book_theme"
html_title = "ebm_jax"
html_static_path = ["static"]
html_css_files = ["ebm_jax.css"]
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
html_copy_source = False
templates_path = []
exclude_patterns = ["build"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
nb_execution_mode = "cache"
nb_execution_timeout = 1800  # seconds per cell; a busy machine takes many times an idle one
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_type_aliases = {
    name: name for name in ("Array", "ArrayLike", "Energy", "Key", "Params", "Position", "PyTree")
}
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True

nitpicky = True
# Types of other packages, which have no pages here, and what typing makes of our own.
nitpick_ignore_regex = [
    (r"py:.*", r"(jax|numpy|np|optax|flax|chex|linen|nn|collections|typing|contextlib)\..*"),
    (r"py:.*", r"(Array|ArrayLike|Energy|Key|Params|Position|PyTree|Any|Callable|Module|optional)"),
]


# Code and formulas, which keep their marks; and other marks, but for that of a list.
_MARKS = re.compile(r"(``.*?``|:math:`.*?`)|(?<!^)(?<!`)[|*]")


def _formulas(app, what, name, obj, options, lines: list[str]) -> None:
    """Make the indented lines of a docstring, which are formulas, a block that keeps its lines.

    In the text |x| is a norm and ``**options`` are arguments, not marks of reStructuredText.
    """
    del app, what, name, obj, options
    found, inside, example = [], False, False
    for line in lines:
        begins = line.startswith("    ") and not inside and (not found or not found[-1].strip())
        if begins and not any(re.match(r"(\.\. |:)", earlier) for earlier in found[-3:]):
            found += [".. code-block:: text", ""]
            inside = True
        elif line.strip() and not line.startswith("    "):
            inside = False
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        literal = example or (inside and line.startswith("    "))
        # A star that begins a line is that of a list.
        found.append(line if literal else _MARKS.sub(lambda m: m[1] or "\\" + m[0], line))
    lines[:] = found


_ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")  # the eight types that it is short for


def _signature(app, what, name, obj, options, signature, returns):
    """Say ArrayLike; leave out what Flax adds, and the ~ before a default that is not code."""
    del app, what, name, obj, options
    own, flax, _ = (signature or "").partition(", parent: ")
    own = own.replace(_ARRAY_LIKE, "ArrayLike")
    if flax or "= <" in own:
        own = re.sub(r"~(\w+\.)*", "", own) + ")" * bool(flax)
    return own or None, returns


def setup(app) -> None:
    """Handle docstrings before napoleon does."""
    app.connect("autodoc-process-docstring", _formulas, priority=1)
    app.connect("autodoc-process-signature", _signature)
