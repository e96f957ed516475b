"""Which peers are there, and cases that ask the PyTorch ones in their own process."""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess

from scripts.benchmark.measure import Case

# The module of each package that runs in the process of the benchmark.
IN_THIS_PROCESS = {
    "blackjax": "blackjax",
    "thrml": "thrml",
    "hamon": "hamon",
    "dwave-samplers": "dwave",
}


def _version_in(python: str, package: str) -> str:
    """Return the version of a package for another interpreter, or an empty string."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else ""


class Peers:
    """The peers that were asked for and are installed, and why the others are not."""

    def __init__(self, asked: list[str], torch_python: str):
        self.server = None
        self.versions: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self.torch_python = torch_python
        for peer in (peer for peer in IN_THIS_PROCESS if peer in asked):
            if importlib.util.find_spec(IN_THIS_PROCESS[peer]):
                self.versions[peer] = importlib.metadata.version(peer)
            else:
                self.skipped[peer] = "not installed"
        if "adabmdca" in asked:
            if version := _version_in(torch_python, "adabmdca"):
                self.versions["adabmdca"] = version
            else:
                self.skipped["adabmdca"] = f"not installed for {torch_python}"
        torch_peers = [peer for peer in asked if peer in ("torchebm", "ebmkit")]
        if torch_peers:
            found = self._start(torch_python)
            for peer in torch_peers:
                if peer in found:
                    self.versions |= {peer: found[peer], "torch": found["torch"]}
                else:
                    self.skipped[peer] = f"not installed for {torch_python}"

    def _start(self, python: str) -> dict[str, str]:
        script = pathlib.Path(__file__).with_name("torch_peers.py")
        # From its own directory, or a local file could hide an installed package.
        self.server = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout is not None
        line = self.server.stdout.readline()
        return json.loads(line) if line else {}

    def _ask(self, request: str) -> str:
        assert self.server is not None
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(request + "\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()

    def __contains__(self, peer: str) -> bool:
        return peer in self.versions

    def torch_cases(self, work: str, only: tuple[str, ...] = (), **sizes) -> dict[str, Case]:
        """Return the PyTorch peers' cases of some work, on one thread and on all."""

        def ask(peer: str, threads: int) -> Case:
            request = json.dumps({"peer": peer, "work": work, "threads": threads} | sizes)

            def run() -> float:
                answer = self._ask(request)
                if not answer:
                    raise RuntimeError(f"{peer} ended before it answered {request}.")
                return json.loads(answer)

            return run

        peers = [p for p in ("torchebm", "ebmkit") if p in self and (not only or p in only)]
        threads = {1: "one thread", os.cpu_count() or 1: "all threads"}
        return {f"{p}, {name}": ask(p, n) for p in peers for n, name in threads.items()}

    def close(self) -> None:
        """Stop the PyTorch process."""
        if self.server and self.server.stdin:
            self.server.stdin.close()
            self.server.wait()
