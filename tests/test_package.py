"""The library stands alone: nothing of the experiments, no global state, rooms on demand."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import ebm_jax

ROOT = Path(__file__).parents[1]
FOREIGN = "matplotlib sklearn scipy.optimize tensorboardX arviz_stats submitit experiments"

PURE = f"""
import sys, jax, flax, chex, optax  # they register options of their own
before = dict(jax.config.values)
import ebm_jax
assert not [m for m in {FOREIGN.split()!r} if m in sys.modules], "imported"
assert dict(jax.config.values) == before, "configuration changed"
assert all(hasattr(ebm_jax, name) for name in ebm_jax.__all__)
"""

LAZY = """
import sys, functools, jax.numpy as jnp
import ebm_jax
def brought():
    return sorted({"flax", "optax", "chex"} & set(sys.modules))
assert not brought(), brought()
e, x = jnp.array([0.0, 1.0]), jnp.zeros(2)
ebm_jax.gibbs.probs(e)
ebm_jax.losses.nll(e, 0), ebm_jax.losses.gradients.of(ebm_jax.losses.nll)(e, 0)
params = ebm_jax.energies.Gaussian(x, x + 1)
energy = functools.partial(ebm_jax.energies.gaussian, params)
energy(x)
ebm_jax.samplers.ula(energy, step_size=0.1)
ebm_jax.inference.minimize_over(lambda y, z: (y - z) ** 2, e)(0.5)
ebm_jax.inference.alignment.free_energy(jnp.zeros((3, 2)))
ebm_jax.inference.sparse_coding.infer(jnp.eye(2), x, sparsity=0.1)
ebm_jax.diagnostics.low_energy_volume(e, e)
assert not brought(), brought()
ebm_jax.energies.networks
assert "flax" in sys.modules
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == ""


def test_importing_the_library_changes_nothing_and_brings_nothing():
    run(PURE)


def test_flax_and_optax_come_only_with_what_needs_them():
    run(LAZY)


def test_every_public_name_is_on_a_page_of_the_reference():
    """By the name of its module, or of the room that hands it on."""
    pages = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").rglob("*.rst")
    )
    shown, module = set(), ""
    for line in pages.splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split(":: ")[1]
        elif line.startswith((".. autofunction:: ", ".. autoclass:: ", ".. autodata:: ")):
            shown.add(f"{module}.{line.split(':: ')[1]}")
    missing = []
    for room in pkgutil.walk_packages(ebm_jax.__path__, "ebm_jax."):
        if "._" in room.name:
            continue
        found = importlib.import_module(room.name)
        flat = getattr(importlib.import_module(room.name.rpartition(".")[0]), "__all__", ())
        for name, value in vars(found).items():
            own = getattr(value, "__module__", "") == room.name and not name.startswith("_")
            if own and callable(value):
                places = {f"{room.name}.{name}"}
                if name in flat:  # the name by which it is imported
                    places.add(f"{room.name.rpartition('.')[0]}.{name}")
                if not places & shown:
                    missing.append(name)
    assert not missing


def test_the_changelog_and_the_citation_have_the_version():
    """The package is the last release or the one in preparation; the citation is the release."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+\.\d+\.\d+) \((unreleased|\d{4}-\d\d-\d\d)\)$", changes, re.M)
    version, date = next(row for row in versions if row[1] != "unreleased")
    assert ebm_jax.__version__.removesuffix(".dev0") in {versions[0][0], version}
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert {f"version: {version}", f"date-released: {date}"} <= set(citation)


def test_every_version_of_python_that_is_named_is_tested():
    """The classifiers have the versions that the workflow runs."""
    named = r"Programming Language :: Python :: (3\.\d+)"
    versions = re.findall(named, (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    (matrix,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.M)
    assert versions == re.findall(r"\d+\.\d+", matrix)
    assert versions


def texts_in_the_encoding_of_the_locale(source):
    """Yield the lines of calls that read or write text and do not say in which encoding."""
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        owner = getattr(getattr(call.func, "value", None), "id", "")
        said = {keyword.arg for keyword in call.keywords}
        modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
        modes += [k.value.value for k in call.keywords if k.arg == "mode"]
        binary = name == "open" and any(re.fullmatch("[rwax+]*b[+]?", str(m)) for m in modes)
        if name not in ("open", "read_text", "write_text") or owner in ("os", "archive", "Image"):
            continue
        if not binary and "encoding" not in said:
            yield call.lineno


def test_text_is_utf8_in_every_locale():
    """The linter has a rule for it, which knows a path only where it can see its type."""
    assert list(texts_in_the_encoding_of_the_locale("p.read_text()\nopen(p)\nopen(p, 'rb')")) == [
        1,
        2,
    ]
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("ebm_jax", "experiments", "scripts", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for line in texts_in_the_encoding_of_the_locale(path.read_text(encoding="utf-8"))
    ]
    assert found == []
