"""Outage, a sink's trouble with the outside world, logged once when it begins and once when it ends."""

import logging
from typing import Set


class Outage:
    """The trouble that one sink can have.

    log     the logger of the sink's module
    name    the beginning of the messages: a file, a broker
    """

    def __init__(self, log: logging.Logger, name: str) -> None:
        self._log, self._name = log, name
        self._kinds: Set[str] = set()  # kinds that were logged since it began

    @property
    def lasts(self) -> bool:
        """True if there is trouble now."""
        return bool(self._kinds)

    def begin(self, reason: str, kind: str = "") -> None:
        """Log the reason, unless one of the same kind was already logged since the trouble began."""
        if kind not in self._kinds:
            self._log.warning("%s: %s", self._name, reason)
        self._kinds.add(kind)

    def end(self, news: str) -> None:
        """Log that it is over, if there was any trouble."""
        if self._kinds:
            self._log.warning("%s: %s", self._name, news)
        self._kinds.clear()
