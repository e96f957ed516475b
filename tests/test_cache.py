"""The cache of compiled functions that the tests share."""

import os
import subprocess
import sys

COMPILE = "import jax; jax.jit(lambda x: 2 * x + 1)(1.0)"


def test_entries_that_a_killed_process_cut_short_are_removed(tmp_path, request):
    plugins = request.config.pluginmanager.get_plugins()
    (remove,) = {
        p.remove_entries_cut_short for p in plugins if hasattr(p, "remove_entries_cut_short")
    }

    def warnings():
        done = subprocess.run(
            [sys.executable, "-c", COMPILE],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0
        return done.stderr

    warnings()
    remove(tmp_path)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert whole
    name, content = max(whole.items(), key=lambda item: len(item[1]))
    for length in {0, 1, 5, len(content) // 2, len(content) - 1}:
        (tmp_path / name).write_bytes(content[:length])
        remove(tmp_path)
        assert {path.name for path in tmp_path.glob("*-cache")} == whole.keys() - {name}, length
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    assert "Error reading persistent compilation cache entry" in warnings()
    remove(tmp_path)
    assert [warnings(), warnings()] == ["", ""]
    assert {
        path.name: path.read_bytes() for path in tmp_path.glob("*-cache")
    }.keys() == whole.keys()
