"""A headless Chromium, driven over its debugging pipe: open a page, run script in it, look at it, hear its errors."""

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--mute-audio"),
    "--remote-debugging-pipe",
]


class Browser:
    """One tab. `problems` collects console errors, exceptions, and every address that the page asked for."""

    def __init__(self, requests: int, answers: int) -> None:
        self._out, self._in, self._rest, self._last, self._session = requests, answers, b"", 0, ""
        self.problems: list[str] = []
        self.requested: list[str] = []
        self._loaded: set[str] = set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, within: float = 60, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + within
        while True:
            answer = self._next(end)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._hear(answer)

    def open(self, address: str, within: float = 60) -> None:
        """Come back when the page has loaded."""
        end = time.monotonic() + within
        for url in ("about:blank", address):  # the first, or another place in the same page would not load it anew
            loader = self.call("Page.navigate", url=url)["loaderId"]
            while loader not in self._loaded:
                self._hear(self._next(end))

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        got = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in got:
            raise RuntimeError(f"{script}: {got['exceptionDetails']}")
        return got["result"].get("value")

    def wait_for(self, script: str, within: float = 60) -> Any:
        """The value of an expression once it is something: a number or a text, not an element."""
        end = time.monotonic() + within
        while True:
            value = self.run(script)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"this never held: {script}")
            time.sleep(0.05)

    def look(self, width: int, height: int, *, dark: bool = False, to: Path | None = None, scale: float = 1) -> None:
        """Set the window's size and the scheme that is preferred; and take a picture where a file is named."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if to:
            got = self.call("Page.captureScreenshot", format="png")
            to.write_bytes(base64.b64decode(got["data"]))

    def _next(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("Chromium did not answer")
            got = os.read(self._in, 1 << 20)
            if not got:
                raise RuntimeError("Chromium has gone")
            self._rest += got
        whole, _, self._rest = self._rest.partition(b"\0")
        return json.loads(whole)

    def _hear(self, told: dict[str, Any]) -> None:
        about = told.get("params", {})
        match told.get("method"):
            case "Page.lifecycleEvent" if about["name"] == "load":
                self._loaded.add(about["loaderId"])
            case "Runtime.exceptionThrown":
                self.problems.append(str(about["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if about["type"] in {"error", "warning", "assert"}:
                self.problems.append(str(about["args"]))
            case "Log.entryAdded" if about["entry"]["level"] in {"error", "warning"}:
                self.problems.append(str(about["entry"]))
            case "Network.requestWillBeSent":
                self.requested.append(about["request"]["url"])


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own, with an empty profile, gone afterwards."""
    requests, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # it reads from 3 and writes to 4, whatever these pipes are called here
        command = ["bash", "-c", f'exec "$@" 3<&{requests} 4>&{answers}', "-", str(CHROMIUM), *FLAGS]
        process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(requests, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(requests)
        os.close(answers)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
