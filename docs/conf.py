"""The documentation site: ``scripts/docs`` builds it."""

import ast
import html
import inspect
import re
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

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
html_favicon = "static/favicon.svg"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # the sidebar has the search box
}
html_context = {"default_mode": "auto"}  # light or dark, as the system is
html_copy_source = False
templates_path = []
exclude_patterns = ["build", "jupyter_execute"]

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
python_maximum_signature_line_length = 80
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has them

nitpicky = True
# Types of other packages, which have no pages here, and what typing makes of our own.
nitpick_ignore_regex = [
    (r"py:.*", r"(jax|numpy|np|optax|flax|chex|linen|nn|collections|typing|contextlib)\..*"),
    (r"py:.*", r"(Array|ArrayLike|Any|Callable|DTypeLike|Module|Sequence|optional)"),
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
            if not any(earlier.endswith("::") for earlier in found[-2:]):
                found += [".. code-block:: text", ""]
            inside = True
        elif line.strip() and not line.startswith("    "):
            inside = False
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        literal = example or (inside and line.startswith("    "))
        if not literal:  # "a." at the start of a description would begin a list
            line = re.sub(r"^(\s+\w+: )(\w|\d+|[ivxlcdm]+)\.(?=\s|$)", r"\1\2\\.", line)
        # A star that begins a line is that of a list.
        found.append(line if literal else _MARKS.sub(lambda m: m[1] or "\\" + m[0], line))
    lines[:] = found


_LIBRARY = Path(ebm_jax.__file__).parent
_ALIASES = {  # name: where it is defined; docs/api/types.rst explains each
    name: re.sub(r"\._\w+", "", ".".join(path.relative_to(_LIBRARY.parent).with_suffix("").parts))
    for path in _LIBRARY.rglob("*.py")
    for name in re.findall(r"^([A-Z][a-z]\w*) = ", path.read_text(encoding="utf-8"), re.M)
    if name != "Array"
}


def _annotation(node: ast.expr | None, names: dict) -> str:
    """Return an annotation as the source has it, with the full names of the library's own types."""

    def full(match: re.Match) -> str:
        name = match[0]
        if name in _ALIASES:
            return f"~{_ALIASES[name]}.{name}"
        value = names.get(name.partition(".")[0])
        for part in name.split(".")[1:]:
            value = getattr(value, part, None)
        own = isinstance(value, type) and value.__module__.partition(".")[0] == "ebm_jax"
        return f"~{value.__module__}.{value.__qualname__}" if own else name

    return re.sub(r"[A-Za-z_][\w.]*", full, ast.unparse(node)) if node else ""


def _signature(app, what, name, obj, options, signature, returns):
    """Return the signature as it is written, so that long types keep their short names."""
    del app, name, options
    if what not in ("class", "function"):
        return None
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(obj)))).body
    except (OSError, TypeError):
        return None
    names = sys.modules[obj.__module__].__dict__
    if isinstance(node, ast.FunctionDef):
        for each in ast.walk(node.args):
            if isinstance(each, ast.arg) and each.annotation:
                each.annotation = ast.Name(_annotation(each.annotation, names))
        return f"({ast.unparse(node.args)})", _annotation(node.returns, names) or None
    fields = [each for each in getattr(node, "body", ()) if isinstance(each, ast.AnnAssign)]
    if what == "class" and fields:  # of a NamedTuple or of a network
        texts = [f"{each.target.id}: {_annotation(each.annotation, names)}" for each in fields]
        values = [f" = {ast.unparse(each.value)}" if each.value else "" for each in fields]
        return f"({', '.join(map(str.__add__, texts, values))})", None
    return signature, returns


def _object(name: str):
    """Return what ``ebm_jax.name`` is, or None."""
    value = ebm_jax
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


class _Names(SphinxPostTransform):
    """Link the names of functions and classes in the text to the API reference."""

    default_priority = 5

    def run(self) -> None:
        entries = {
            name.removeprefix("ebm_jax."): entry
            for name, entry in self.env.domains.python_domain.objects.items()
            if entry.objtype in ("class", "exception", "function", "type") and not entry.aliased
        }
        by_object = {id(_object(name)): entry for name, entry in entries.items()}
        by_object.pop(id(None), None)
        for literal in self.document.findall(nodes.literal):
            text = literal.astext().removesuffix("()")
            name = text.removeprefix("ebm_jax.")
            if not re.fullmatch(r"[a-zA-Z][\w.]*", name):
                continue
            # One word may be the name of an argument, or of another package.
            ours = name != text or re.search("[._]", name) or self.env.docname.startswith("api/")
            found = (
                [by_object[id(_object(name))]] if ours and id(_object(name)) in by_object else []
            )
            if not found and ours and (re.search("[._]", name) or name[0].isupper()):
                found = [entry for key, entry in entries.items() if key.endswith(f".{name}")]
            above, own = literal.parent, []
            while above and not isinstance(above, nodes.title | nodes.reference):
                if isinstance(above, addnodes.desc):
                    own += above.children[0]["ids"]
                above = above.parent
            if not above and len(found) == 1 and found[0].node_id not in own:
                builder, entry = self.app.builder, found[0]
                content = literal.deepcopy()
                literal.replace_self(
                    make_refnode(builder, self.env.docname, entry.docname, entry.node_id, content)
                )


def _description(app, page, template, context, doctree) -> None:
    """Describe a page to search engines by its first paragraph."""
    del app, page, template
    paragraph = next(doctree.findall(nodes.paragraph), None) if doctree else None
    if paragraph:
        text = textwrap.shorten(paragraph.astext(), 160, placeholder=" …")
        context["metatags"] += f'<meta name="description" content="{html.escape(text)}">'


def setup(app) -> None:
    """Connect the functions above; docstrings are handled before napoleon does."""
    # It only adds a script to the pages, but does not declare that parallel reading is safe.
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
    app.add_post_transform(_Names)
    app.connect("html-page-context", _description)
    app.connect("autodoc-process-docstring", _formulas, priority=1)
    app.connect("autodoc-process-signature", _signature)
