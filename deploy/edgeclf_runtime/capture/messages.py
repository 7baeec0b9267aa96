"""Checks the messages that the capture process sends to its parent.

That process decodes data from strangers, so nothing that it says is trusted: each message must be of a known kind, in
its order, of bounded size and with the right types.
"""

import json
import math
from typing import Any, Dict, List, Optional, Set, Tuple

from ..images.read import MAX_PIXELS

MOST_OF_A_LINE, MOST_OF_A_REASON = 1 << 14, 2000
_MOST_COUNTED = 1 << 53  # the largest number that JSON holds exactly
_CHANNELS = 3
_HIGHEST_RATE = 1000
_KINDS = (
    "error",
    "failed",
    "refused",
    "end",
    "incomplete",
    "unfit",
    "decoder",
    "waiting",
    "opening",
    "opened",
    "frame",
)
_MOST_TEXTS, _LONGEST_MODE = 20, 500
# A JSON object that has been checked; its kind decides which keys it has, and of which types.
Message = Dict[str, Any]


class Messages:
    """Bytes in, messages out.  Raises ValueError for anything but a valid next message.

    slots       the number of slots
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._received = b""
        self._received_kinds: Set[str] = set()
        self.shape: Optional[Tuple[int, int, int]] = None  # of every frame

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        self._received += data
        if b"\n" not in self._received and len(self._received) > MOST_OF_A_LINE:
            raise ValueError("a message of more than {} bytes".format(MOST_OF_A_LINE))

    def next(self, asked: bool) -> Optional[Message]:
        """Return the next message, or None if it is not complete yet.  ``asked``: whether a frame was requested."""
        if b"\n" not in self._received:
            return None
        line, _, self._received = self._received.partition(b"\n")
        if len(line) > MOST_OF_A_LINE:
            raise ValueError("a message of more than {} bytes".format(MOST_OF_A_LINE))
        try:
            message = json.loads(line.decode())
        except (ValueError, RecursionError):
            raise ValueError("a message that is not JSON: {!r}".format(line[:80]))
        return self._checked(message, asked)

    def _checked(self, message: object, asked: bool) -> Message:
        kinds = [kind for kind in _KINDS if kind in message] if isinstance(message, dict) else []
        if not isinstance(message, dict) or len(kinds) != 1:
            raise ValueError("a message of unknown kind: {:.80}".format(repr(message)))
        (kind,) = kinds
        if kind == "frame":
            if not asked or "opened" not in self._received_kinds:
                raise ValueError("a frame that was not requested")
            return self._frame(message)
        # The decoder comes twice: what is tried first, and what is used.
        seen = "first " + kind if kind == "decoder" and "first decoder" not in self._received_kinds else kind
        if seen in self._received_kinds or (
            "opened" in self._received_kinds and kind in ("waiting", "opening", "decoder")
        ):
            raise ValueError("the message {!r} out of order".format(kind))
        self._received_kinds.add(seen)
        if kind == "opened":
            return _opened(message)
        if kind in ("end", "incomplete"):
            return {kind: _text(message[kind]), "unreadable": _unreadable(message)}
        if kind == "waiting":
            return {"waiting": _text(message[kind]), "why": _text(message.get("why", ""))}
        if kind == "failed":
            return {"failed": _text(message[kind]), "probed": _text(message.get("probed", ""))}
        return {kind: True if kind == "opening" else _text(message[kind])}

    def _frame(self, message: Message) -> Message:
        shape = message.get("shape")
        if not isinstance(shape, list) or len(shape) != 3 or not all(_is_count(side) and side > 0 for side in shape):
            raise ValueError("a frame of the shape {:.80}".format(repr(shape)))
        height, width, channels = shape
        if channels != _CHANNELS or height * width > MAX_PIXELS:
            raise ValueError("a frame of the shape {}".format(shape))
        if self.shape not in (None, (height, width, channels)):
            raise ValueError("a frame of the shape {}, after {}".format(shape, list(self.shape or ())))
        self.shape = (height, width, channels)
        if not _is_count(message["frame"]) or message["frame"] >= self._slots:
            raise ValueError("a frame in the slot {:.80}".format(repr(message["frame"])))
        message.setdefault("rested", 0)
        for name in ("number", "dropped", "rested"):
            if not _is_count(message.get(name)):
                raise ValueError("a frame whose {} is {:.80}".format(name, repr(message.get(name))))
        for name in ("captured", "captured_at", "capture_ms"):
            if not _is_amount(message.get(name)):
                raise ValueError("a frame whose {} is {:.80}".format(name, repr(message.get(name))))
        if message.setdefault("position_s", None) is not None and not _is_amount(message["position_s"]):
            raise ValueError("a frame whose position_s is {:.80}".format(repr(message["position_s"])))
        return message


def _opened(message: Message) -> Message:
    facts = {name: [_text(item) for item in _list(message, name)] for name in ("confined", "notes")}
    flags = {name: message.get(name) is True for name in ("ends", "still")}
    return dict(facts, opened=True, rate=_rate(message), **flags, **_mode(message))


def _unreadable(message: Message) -> int:
    count = message.get("unreadable", 0)
    if not _is_count(count):
        raise ValueError("{:.80} unreadable frames".format(repr(count)))
    return count


def _list(message: Message, name: str) -> List[object]:
    found = message.get(name, [])
    return found[:_MOST_TEXTS] if isinstance(found, list) else []


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_COUNTED


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value < _MOST_COUNTED and math.isfinite(value)


def _rate(message: Message) -> Optional[float]:
    rate = message.get("rate")
    if rate is not None and not (_is_amount(rate) and 0 < rate < _HIGHEST_RATE):
        raise ValueError("the rate {:.80}".format(repr(rate)))
    return rate


def _mode(message: Message) -> Message:
    """Return what a camera granted, as text, and whether it is what was requested."""
    granted, as_asked = message.get("granted", ""), message.get("as_asked", True)
    if type(as_asked) is not bool:
        raise ValueError("as_asked is {:.80}".format(repr(as_asked)))
    return {"granted": _text(granted)[:_LONGEST_MODE], "as_asked": as_asked}


def _text(value: object) -> str:
    """Return a text without characters that could control a terminal or start a new log line."""
    if not isinstance(value, str):
        raise ValueError("{:.80} instead of text".format(repr(value)))
    return "".join(letter if letter.isprintable() else " " for letter in value[:MOST_OF_A_REASON])
