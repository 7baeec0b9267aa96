"""Makes the picture in README.md: the live page in Chromium, while a bundle classifies a video.

    python3 docs/make_picture.py edgeclf-demo/solar.edge edgeclf-demo/cells.avi docs/images/live.png

Further options are those of ``run``.  Needs Debian's packages chromium and chromium-driver.
"""

from __future__ import annotations

import argparse
import base64
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.brokers import wait_until
from tests.support.browsers import Browser, chromium
from tests.support.cameras import free_port

WIDTH, HEIGHT = 1120, 600


def main() -> None:
    """Start the bundle, open its live page, and save what the browser shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("source", metavar="SOURCE", help="any --source; a video is played at its own speed")
    parser.add_argument("output", metavar="PICTURE.png", type=Path)
    parser.add_argument("--frames", type=int, default=150, help="take the picture after this many frames")
    arguments, options = parser.parse_known_args()
    port = free_port()
    run = [sys.executable, arguments.bundle, "run", "--source", arguments.source, "--policy", "latest"]
    with tempfile.TemporaryDirectory() as profile, chromium(profile) as browser:
        process = subprocess.Popen([*run, "--live", str(port), "--quiet", *options])
        try:
            wait_until(lambda: answers(port))
            arguments.output.write_bytes(picture(browser, f"http://127.0.0.1:{port}/", arguments.frames))
        finally:
            process.terminate()
            process.wait()


def answers(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def picture(browser: Browser, address: str, frames: int) -> bytes:
    """Return the live page as PNG, once it has shown so many frames."""
    screen = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **screen)
    browser.open(address)
    shown = "Number(at('frames').textContent.replace(/[^0-9]/g, ''))"  # "1,794"
    browser.wait_until(f"document.body.classList.contains('live') && {shown} >= {frames}")
    return base64.b64decode(browser.devtools("Page.captureScreenshot", format="png")["data"])


if __name__ == "__main__":
    main()
