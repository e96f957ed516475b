"""Chromium without a window, driven by the DevTools protocol over a pipe."""

import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SECONDS = 120  # for one answer; a busy machine takes many times an idle one
PROBLEMS = """
(async () => {
  const images = [...document.images];
  images.forEach(image => { image.loading = "eager"; });
  await Promise.all(images.map(image => image.decode().catch(() => {})));
  const problems = images.filter(image => !image.naturalWidth).map(i => `not loaded: ${i.src}`);
  const page = document.documentElement;
  if (page.scrollWidth > page.clientWidth)
    problems.push(`scrolls sideways: ${page.scrollWidth} in ${page.clientWidth} pixels`);
  return problems;
})()
"""


class Browser:
    """One tab. ``with Browser(folder) as browser``; the folder holds its profile."""

    def __init__(self, profile):
        incoming, self._out = os.pipe()
        self._in, outgoing = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        # The browser reads commands from the descriptor 3 and writes answers to 4.
        redirect = f'exec "$@" 3<&{incoming} 4>&{outgoing}'
        self._process = subprocess.Popen(
            ["bash", "-c", redirect, "bash", PROGRAM, *options],
            pass_fds=(incoming, outgoing),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(incoming)
        os.close(outgoing)
        self._buffer, self._count, self._session, self.events = b"", 0, {}, []
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        os.close(self._out)  # which ends it
        self._process.wait(SECONDS)
        os.close(self._in)

    def _message(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, *_ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            received = os.read(self._in, 1 << 20) if ready else b""
            assert received, "The browser does not answer."
            self._buffer += received
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def command(self, method, **params):
        """Return the result of a command; keep the events before it."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": params} | self._session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != self._count:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def visit(self, url, width=1280, height=900):
        """Open a page in a window of this width, and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        self.command("Page.navigate", url=url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def evaluate(self, script):
        """Return the value of a script, awaited."""
        answer = self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def problems(self):
        """Return the page's errors, images that are not loaded, and whether it scrolls sideways."""
        found = self.evaluate(PROBLEMS)
        for event in self.events:
            what = event["params"]
            if (
                event["method"] == "Runtime.exceptionThrown"
                or (event["method"] == "Log.entryAdded" and what["entry"]["level"] == "error")
                or (event["method"] == "Runtime.consoleAPICalled" and what["type"] == "error")
            ):
                found.append(json.dumps(what))
        return found
