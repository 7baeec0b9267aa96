"""Trouble in the world around a sink, logged once when it begins and once when it is over."""

from typing import Set


class Outage:
    """Trouble that one sink can have.

    log     the logger of the sink's module
    name    what the messages begin with: a file, a broker
    """

    def __init__(self, log, name):
        self._log, self._name = log, name
        self._kinds: Set[str] = set()  # that were logged since it began

    @property
    def lasts(self):
        """Whether there is trouble."""
        return bool(self._kinds)

    def begin(self, reason, kind=""):
        """Log the reason, unless one of its kind was logged since the trouble began."""
        if kind not in self._kinds:
            self._log.warning("%s: %s", self._name, reason)
        self._kinds.add(kind)

    def end(self, news):
        """Log how it goes on, if there was any trouble."""
        if self._kinds:
            self._log.warning("%s: %s", self._name, news)
        self._kinds.clear()
