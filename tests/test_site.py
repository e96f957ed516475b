"""The documentation as a reader sees it: in a browser, on a screen and on a phone."""

import functools
import http.server
import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = ("nb_execution_mode=off", "suppress_warnings=myst.header,myst-nb.lexer")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the site: the last build if nothing changed since, or a new one."""
    built = ROOT / "docs" / "build" / "html"
    sources = [ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "ebm_jax").rglob("*.py")]
    sources += [p for p in (ROOT / "docs").rglob("*.*") if "build" not in p.parts and p.is_file()]
    last = built / "searchindex.js"  # which is written last
    if last.exists() and last.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return built
    if not importlib.util.find_spec("myst_nb"):
        pytest.skip("Sphinx is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", *(f"-D{option}" for option in OPTIONS)]
    subprocess.run(
        [*command, "-d", folder / "trees", ROOT / "docs", folder / "html"],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return folder / "html"


def test_the_browser_sees_every_kind_of_problem(opened, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<img src="missing.png"><p style="width: 500px">wide</p>'
        "<script>console.error('told'); throw new Error('thrown')</script>",
        encoding="utf-8",
    )
    opened.visit(page.as_uri(), 390)
    found = "\n".join(opened.problems())
    for text in ("not loaded: file://", "scrolls sideways: 5", "told", "thrown", "ERR_FILE_NOT"):
        assert text in found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(
    "page",
    ["index", "search", "tutorials/3_sampling", "homework", "gallery", "api/samplers/langevin"],
)
def test_a_page_has_no_errors_and_fits_the_screen(site, opened, page, width):
    opened.visit((site / f"{page}.html").as_uri(), width)
    assert opened.problems() == []


@pytest.fixture
def served(site):
    """Return the address of the site on a server of this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_search_finds_langevin(served, opened):
    """From a server: a page from disk cannot read the pages that it quotes."""
    opened.visit(f"{served}/search.html?q=Langevin")
    links = opened.evaluate("""
        new Promise(resolve => {
          const look = () => {
            const links = [...document.querySelectorAll("#search-results li a")];
            const done = /found \\d+ page|did not match/.test(document.body.innerText);
            done ? resolve(links.map(link => link.href)) : setTimeout(look, 50);
          };
          look();
        })
    """)
    assert any("api/samplers/langevin.html" in link for link in links), links
    assert opened.problems() == []


def test_every_page_has_a_description_and_no_list_without_words(site):
    """A description of one letter, "a.", would be a list."""
    pages = [page for page in site.rglob("*.html") if "_static" not in page.parts]
    assert len(pages) > 80
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<li>\s*(<p>\s*</p>)?\s*</li>|<ol class=\"loweralpha", text), page
        if page.stem not in ("genindex", "py-modindex", "search"):
            assert '<meta name="description"' in text, page
