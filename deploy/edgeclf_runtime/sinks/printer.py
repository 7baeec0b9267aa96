"""Results on stdout: a line each, for people or as JSON."""

from .base import Sink


class PrintSink(Sink):
    """Hands each result's and event's line to ``write``, which is to print it.

    A stdout that fails ends the run: whoever reads it has gone, or cannot be reached.
    """

    def __init__(self, write, as_json=False):
        self._write, self._as_json = write, as_json

    def write(self, item):
        """Print one StreamResult."""
        self._write(item.to_json() if self._as_json else str(item))

    event = write
