"""Chromium without a window, told what to do over WebDriver, which is JSON over HTTP."""

import contextlib
import json
import os
import subprocess
import time
import urllib.request

WAIT_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # It would look up its maker's hosts all the same.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.*, EXCLUDE [::1]",
)


class Browser:
    """A Chromium without a window."""

    def __init__(self, driver, profile):
        self.driver = driver
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._post("session", capabilities={"alwaysMatch": wanted})
        self.session = f"session/{session['sessionId']}"

    def _post(self, command, **arguments):
        body = json.dumps(arguments).encode()
        request = urllib.request.Request(f"{self.driver}/{command}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)["value"]

    def open(self, url):
        self._post(f"{self.session}/url", url=url)

    def run(self, script, *arguments):
        """What a function of this JavaScript body returns."""
        return self._post(f"{self.session}/execute/sync", script=script, args=arguments)

    def devtools(self, command, **parameters):
        return self._post(f"{self.session}/goog/cdp/execute", cmd=command, params=parameters)

    def complaints(self):
        """What stands in the browser's console."""
        return [entry["message"] for entry in self._post(f"{self.session}/se/log", type="browser")]

    def wait_until(self, script):
        """Return what a JavaScript expression gives, once that is true."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            value = self.run(f"return {script}")
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"{script} did not come true; the page says: {self.run('return document.body.innerText')}")

    def close(self):
        request = urllib.request.Request(f"{self.driver}/{self.session}", method="DELETE")
        urllib.request.urlopen(request, timeout=WAIT_S).close()


@contextlib.contextmanager
def chromium(profile):
    """A Browser, of the Chromium and the chromedriver that are installed."""
    # Of its own: an identifier for reports of crashes is kept there.
    environment = {**os.environ, "HOME": str(profile)}
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, env=environment) as driver:
        try:
            line = next(line for line in driver.stdout if "started successfully on port" in line)
            port = line.split()[-1].rstrip(".")
            browser = Browser(f"http://127.0.0.1:{port}", profile)
            with contextlib.closing(browser):
                yield browser
        finally:
            driver.terminate()
