"""A headless Chromium, driven by the DevTools protocol over a pipe: no port, no driver, nothing that asks a network.

Chromium reads messages from its descriptor 3 and writes them to 4, each ended by a zero byte.
https://chromedevtools.github.io/devtools-protocol/ lists the methods.
"""

from __future__ import annotations

import base64
import json
import os
import select
import subprocess
from collections import deque
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",  # pages here are our own, and root in a container has no other choice
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
PATIENCE = 60  # seconds for one answer; a busy machine may take a few to start
KEYS = {"Tab": ("Tab", 9, ""), "Enter": ("Enter", 13, "\r"), "ArrowDown": ("ArrowDown", 40, "")}


class Browser:
    """One process; ``open`` gives tabs. Closed by ``close``."""

    def __init__(self, profile: Path) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # The shell puts the pipes where Chromium looks for them.
        start = f'exec chromium "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ["bash", "-c", start, "chromium", *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._read = b""
        self._messages: deque[dict[str, Any]] = deque()

    def close(self) -> None:
        """End the process."""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def open(self, page: Path, *, width: int = 1200, features: dict[str, str] | None = None) -> Tab:
        """A page from a file in a new tab, fully loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        given = [{"name": name, "value": value} for name, value in (features or {}).items()]
        tab.call("Emulation.setEmulatedMedia", features=given)
        tab.call("Page.navigate", url=page.resolve().as_uri())
        tab.wait_for("Page.loadEventFired")
        return tab

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send and wait for the answer; events that come first are handed to their tab."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._messages.append(answer)

    def event(self, session: str) -> dict[str, Any]:
        """The next event of a tab."""
        for number, message in enumerate(self._messages):
            if message.get("sessionId") == session:
                del self._messages[number]
                return message
        while (message := self._next()).get("sessionId") != session:
            self._messages.append(message)
        return message

    def waiting(self, session: str) -> list[dict[str, Any]]:
        """The events of a tab that have come and were not asked for."""
        found = [message for message in self._messages if message.get("sessionId") == session]
        self._messages = deque(message for message in self._messages if message.get("sessionId") != session)
        return found

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._in], [], [], PATIENCE)
            assert ready, f"Chromium has said nothing for {PATIENCE} seconds"
            more = os.read(self._in, 1 << 20)
            assert more, f"Chromium ended with exit code {self._process.wait(PATIENCE)}"
            self._read += more
        line, _, self._read = self._read.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


class Tab:
    """One page. ``requests`` and ``complaints`` are what it asked of a network, and what its console says."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self._heard: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A DevTools method on this page."""
        return self._browser.call(method, self._session, **parameters)

    def wait_for(self, method: str) -> None:
        """Until the page tells of this event."""
        while True:
            event = self._browser.event(self._session)
            self._heard.append(event)
            if event["method"] == method:
                return

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """A key, as a keyboard sends it."""
        code, number, text = KEYS[key]
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Text into whatever has the focus."""
        self.call("Input.insertText", text=text)

    @property
    def requests(self) -> list[str]:
        """Addresses asked for, the page's own file included."""
        return [event["params"]["request"]["url"] for event in self._all() if event["method"] == _REQUEST]

    @property
    def complaints(self) -> list[str]:
        """What the console says, of any kind."""
        return [json.dumps(event["params"]) for event in self._all() if event["method"] in _COMPLAINTS]

    def picture(self, width: int, height: int) -> bytes:
        """The page's upper left corner as WebP."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", format="webp", quality=80, captureBeyondViewport=True, clip=clip)
        return base64.b64decode(answer["data"])

    def paper(self) -> bytes:
        """The page as it prints, as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])

    def _all(self) -> list[dict[str, Any]]:
        self.run("0")  # whatever was under way has been told when this is answered
        self._heard += self._browser.waiting(self._session)
        return self._heard


_REQUEST = "Network.requestWillBeSent"
_COMPLAINTS = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
