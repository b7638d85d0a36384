"""Headless Chromium, driven by its own protocol over a pipe: what a page shows, and what a reader does to it."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One page. Messages are JSON, each ended by a NUL, on the descriptors 3 and 4 of the browser."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM
        (read_there, write_here), (read_here, write_there) = os.pipe(), os.pipe()
        # The descriptors have to be 3 and 4 there; bash moves them.
        script = f'exec "$0" "$@" 3<&{read_there} 4>&{write_there} {read_there}<&- {write_there}>&-'
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            ["bash", "-c", script, PROGRAM, *options, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in (read_there, write_there):
            os.close(descriptor)
        self.out, self.into = os.fdopen(read_here, "rb"), os.fdopen(write_here, "wb")
        self.number, self.held, self.session = 0, b"", ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.into.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Do something, and return what the browser answers."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        self.into.write(json.dumps(message).encode() + b"\0")
        self.into.flush()
        while True:
            while b"\0" not in self.held:
                new = os.read(self.out.fileno(), 2**16)
                assert new, "the browser has ended"
                self.held += new
            text, _, self.held = self.held.partition(b"\0")
            answer = json.loads(text)
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def evaluate(self, expression: str) -> Any:
        """Compute a JavaScript expression in the page, and wait for it if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, page: Path, fragment: str = "", width: int = 1000, height: int = 800) -> None:
        """Show a file, and wait until it is loaded with its pictures."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        address = f"{page.resolve().as_uri()}{fragment}"
        self.call("Page.navigate", url="about:blank")  # an address that differs by its fragment alone loads nothing
        self.call("Page.navigate", url=address)
        end = time.monotonic() + 60
        while not self.evaluate(
            f"document.readyState == 'complete' && location.href.startsWith({json.dumps(page.resolve().as_uri())})"
        ):
            assert time.monotonic() < end, f"{address}: not loaded in a minute"
            time.sleep(0.05)

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse at the first point, move it to the others, and let go at the last."""
        steps = [
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points[1:]),
            ("mouseReleased", points[-1]),
        ]
        for kind, (x, y) in steps:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
