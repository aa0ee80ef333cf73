"""Real Chromium over the DevTools protocol on a pipe: no port, no driver, nothing to install but the browser.

``Browser`` starts it with a profile of its own and ends it by process group. Messages are JSON, each ended by a NUL
byte, written to the child's descriptor 3 and read from its descriptor 4 (``--remote-debugging-pipe``).
"""

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
    "--disable-extensions", "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """One headless browser. Use as a context manager."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium")
        assert program, "chromium is not installed; tests/install_tools.sh installs what the tests need"
        commands_out, self._commands = os.pipe()
        self._events, events_in = os.pipe()

        def hand_over() -> None:
            os.dup2(commands_out, 103)
            os.dup2(events_in, 104)
            os.dup2(103, 3)
            os.dup2(104, 4)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"], preexec_fn=hand_over, close_fds=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(commands_out)
        os.close(events_in)
        self._buffer = b""
        self._last_id = 0
        self.events: list[dict[str, Any]] = []
        self.tabs: list[Tab] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._commands)
        os.close(self._events)

    def call(self, method: str, session: str | None = None, deadline: float = 30, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events that arrive meanwhile are kept in ``events``."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params} | (
            {"sessionId": session} if session else {}
        )
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + deadline
        while True:
            answer = self._read(until)
            if answer.get("id") == self._last_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._events], [], [], max(0.0, until - time.monotonic()))
            assert ready, "chromium did not answer in time"
            data = os.read(self._events, 1 << 16)
            assert data, "chromium ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))

    def open(self, url: str, width: int, height: int = 900, *, dark: bool = False, scripts: bool = True) -> "Tab":
        """Open ``url`` in a new tab with the given width in CSS pixels, and wait until it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        self.tabs.append(tab)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        tab.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )
        if not scripts:
            tab.call("Emulation.setScriptExecutionDisabled", value=True)
        tab.call("Page.navigate", url=url)
        wait_for(
            lambda: tab.ask("location.href !== 'about:blank' && document.readyState === 'complete'"), "the page to load"
        )
        return tab


class Tab:
    """One page in the browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value as JSON."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def complaints(self) -> list[str]:
        """Console errors and warnings, uncaught exceptions and log entries (CSP violations) of this tab so far."""
        self.ask("1")
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            if event["method"] == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(str(params["args"]))
        return found

    def requested(self) -> list[str]:
        """Addresses that this tab has asked for so far."""
        self.ask("1")
        sent = (e for e in self._browser.events if e.get("sessionId") == self._session)
        return [e["params"]["request"]["url"] for e in sent if e["method"] == "Network.requestWillBeSent"]

    def picture(self, path: Path) -> None:
        """Write the whole page, not only the window, as PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._browser.tabs.remove(self)
        self._browser.call("Target.closeTarget", targetId=self._target)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    """Ask again and again until the answer is true; fail after ``seconds``."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return answer
