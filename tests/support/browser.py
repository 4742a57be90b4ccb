"""Chromium without a window, driven over a pipe by its own protocol, for tests of what a page does."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
REPLY_S = 30.0


def find_browser() -> str | None:
    """The browser that SCORELINE_TEST_BROWSER names, or one on PATH."""
    named = os.environ.get("SCORELINE_TEST_BROWSER")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


class Page:
    """A tab of its own size, color scheme and storage."""

    def __init__(self, browser: Browser, width: int, height: int, scheme: str) -> None:
        self._browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        is_phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=is_phone,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command to this tab."""
        return self._browser.call(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Go to a URL."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        done = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element, "" if it is not there."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of what is seen, or of the whole page."""
        taken = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))

    def hide(self, is_hidden: bool) -> None:
        """Let the page think that its tab is behind another one, or in front again."""
        self.run(
            f"Object.defineProperty(document, 'hidden', {{value: {json.dumps(is_hidden)}, configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    @property
    def complaints(self) -> list[str]:
        """What the browser had to complain of: errors of scripts, and what the page's policy has kept away."""
        self.run("0")  # what has happened before has been told then
        told = []
        for event in self._browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Runtime.exceptionThrown":
                told.append(json.dumps(event["params"]["exceptionDetails"]))
            if event["method"] == "Log.entryAdded":
                told.append(event["params"]["entry"]["text"])
        return told


class Browser:
    """A process of Chromium."""

    def __init__(self, process: subprocess.Popen[bytes], reads: int, writes: int) -> None:
        self._process, self._reads, self._writes = process, reads, writes
        self._last = 0
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def page(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        """A new tab."""
        return Page(self, width, height, scheme)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a command."""
        self._last += 1
        command: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self._writes, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + REPLY_S
        while True:
            while b"\0" in self._buffer:
                message, _, self._buffer = self._buffer.partition(b"\0")
                told = json.loads(message)
                if told.get("id") == self._last:
                    assert "error" not in told, (method, told["error"])
                    return told["result"]
                if "method" in told:
                    self.events.append(told)
            left = deadline - time.monotonic()
            assert left > 0, f"{method}: no reply"
            assert self._process.poll() is None, "the browser has ended"
            if select.select([self._reads], [], [], min(1.0, left))[0]:
                self._buffer += os.read(self._reads, 1 << 20)


@contextmanager
def open_browser(executable: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, which ends with the block."""
    its_input, writes = os.pipe()
    reads, its_output = os.pipe()

    def connect() -> None:
        # Out of the way first: one of them may be 3 or 4.
        given, taken = (fcntl.fcntl(each, fcntl.F_DUPFD, 100) for each in (its_input, its_output))
        os.dup2(given, 3)
        os.dup2(taken, 4)

    # As root, which containers of CI are, Chromium wants no sandbox; only pages of this machine are opened.
    command = [
        executable, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-sandbox",
        "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-proxy-server", "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=connect,
    )
    os.close(its_input)
    os.close(its_output)
    try:
        yield Browser(process, reads, writes)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(reads)
        os.close(writes)
