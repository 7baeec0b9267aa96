"""Shows which part of a report is at work, and for how long."""

import threading
import time

from ...text.terminal import show_line, show_message

INTERVAL_S = 1.0


class Progress:
    """Shows the part at work inside ``with``: with its seconds on a terminal, elsewhere as one line on stderr."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._title, self._start = "", 0.0

    def show(self, title: str) -> None:
        """Show that a part begins."""
        self._title, self._start = title, time.monotonic()
        if not show_line(title):
            show_message(title)

    def _run(self) -> None:
        while not self._ending.wait(INTERVAL_S):
            if self._title:
                show_line("{}, {:.0f} s".format(self._title, time.monotonic() - self._start))

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        show_line("")
