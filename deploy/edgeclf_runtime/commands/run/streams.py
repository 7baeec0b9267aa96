"""Streams, those of a run's cameras: closed at its end, or one by one before it, and then forgotten."""

import contextlib
from typing import TYPE_CHECKING, Dict, Iterable, Iterator, List, Optional

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Type

    from .camera_stream import CameraStream


class Streams:
    """The CameraStreams of a run by the names of their cameras; leaving its block closes them, the latest first."""

    def __init__(self) -> None:
        self._streams: "Dict[str, CameraStream]" = {}

    def add(self, stream: "CameraStream") -> None:
        """Keep a stream, until it is closed."""
        self._streams[stream.name] = stream

    def open(self, wait: bool) -> None:
        """Open the outputs of each; see CameraStream.open()."""
        for stream in self:
            stream.open(wait)

    @property
    def only(self) -> "CameraStream":
        """The stream of a run that has one."""
        (stream,) = self
        return stream

    def of(self, names: Iterable[str]) -> "List[CameraStream]":
        """Return the streams of those of some cameras that have one."""
        return [self._streams[name] for name in names if name in self._streams]

    def close(self, name: str) -> None:
        """Close a camera's stream, if it has one, and forget it: afterwards, since a signal may come in the middle."""
        if name in self._streams:
            self._streams[name].close()
            del self._streams[name]

    def __iter__(self) -> "Iterator[CameraStream]":
        return iter(list(self._streams.values()))

    def __enter__(self) -> "Streams":
        return self

    def __exit__(
        self,
        kind: "Optional[Type[BaseException]]",
        error: Optional[BaseException],
        traceback: "Optional[TracebackType]",
    ) -> Optional[bool]:
        stack = contextlib.ExitStack()
        for stream in self:
            stack.push(stream)
        return stack.__exit__(kind, error, traceback)
