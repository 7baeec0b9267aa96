"""Prints results on stdout, one line each, for people or as JSON."""

from typing import TYPE_CHECKING, Callable, Union

from .base import Sink

if TYPE_CHECKING:
    from ..results import LabelEvent, StreamEvent, StreamResult


class PrintSink(Sink):
    """Passes the line of each result and event to the function ``write``, which prints it.

    A failing stdout ends the run: its reader is gone.
    """

    def __init__(self, write: Callable[[str], object], as_json: bool = False) -> None:
        self._write, self._as_json = write, as_json

    def write(self, item: "Union[StreamResult, StreamEvent, LabelEvent]") -> None:
        """Print one StreamResult."""
        self._write(item.to_json() if self._as_json else str(item))

    def event(self, event: "StreamEvent") -> None:
        """Print one StreamEvent."""
        self.write(event)

    def label_event(self, event: "LabelEvent") -> None:
        """Print one LabelEvent."""
        self.write(event)
