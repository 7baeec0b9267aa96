"""The capture process: drains one source into memory that its parent shares.

Started by ``capture/parent.py``.  It is a process of its own because a read from a lost camera can
block for ever (OpenCV issue 22677) and decoders crash; the parent kills it and starts another.
When the parent goes, it goes.  Before it opens its source it gives up what decoders do not need, see
``capture/sandbox/confine.py``.

Pictures lie in SLOTS slots of one shared file; what is said about them goes over a socket.
To the parent, a line of JSON each: ``{"waiting": name, "why": reason}`` if the source is not there and
``{"opening": true}`` when it has come, ``{"opened": true, ...}``, ``{"frame": slot, "shape": ..., ...}``, and at last
``{"end": reason}``, ``{"incomplete": reason}``, ``{"error": reason}``, ``{"failed": what, "probed": ...}`` (the reader wrote
the reason to stderr) or ``{"refused": reason}`` (opening it again would not help).  From the parent, first the Source as
a line of JSON (not as an argument: a URL can hold a password), then a byte each: NEXT asks for a frame, any other is the
number of a slot that is free again; the end of the link asks for an end.
"""

import collections
import json
import mmap
import os
import select
import signal
import socket
import threading
import time
from typing import Any, Deque, Dict, Tuple

from ..errors import CameraError, EndOfStream, IncompleteFilm, SourceError
from ..images.read import MAX_PIXELS
from .frame_memory import reserve
from .readers.base import ReaderError
from .readers.open import open_source
from .sandbox.confine import confine
from .source import Source, absence, is_live, too_large
from .v4l2.device import resolved

SLOTS = 6
NEXT = 255
_AHEAD = 3  # frames of a file that are decoded before they are asked for
_LOOK_EVERY_S = 0.5
# For stopping a camera in order when the link has ended; the parent, if it is there, kills sooner.
_CLOSE_TIMEOUT_S = 3.0
_FRAME_BYTES = 3 * MAX_PIXELS


class Closed(BaseException):
    """The parent has closed the link; no failure, so that nothing reports it as one."""


class Slots:
    """Which slots are free, filled, or lent to the parent; frames go to the parent as it asks for them.

    latest      keep the newest frame alone; without it, every frame, a few ahead
    send        takes a message to the parent
    """

    def __init__(self, latest, send):
        self._latest, self._send = latest, send
        self._free = set(range(SLOTS))
        self._filled: Deque[Tuple[int, Dict[str, Any]]] = collections.deque()
        self._asked = 0
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0

    def keep_all(self):
        """Keep every frame from now on; before the first."""
        self._latest = False

    @property
    def _ahead(self):
        return 1 if self._latest else _AHEAD

    def take(self):
        """Return a free slot; waits for one.  Raises Closed."""
        with self._changed:
            self._wait_for(lambda: self._free and (self._latest or len(self._filled) < self._ahead))
            # As few slots in use as can be: their memory stays in the processor's cache.
            slot = min(self._free)
            self._free.remove(slot)
            return slot

    def fill(self, slot, facts):
        """Hand over a frame."""
        with self._changed:
            self._filled.append((slot, facts))
            if len(self._filled) > self._ahead:
                self._free.add(self._filled.popleft()[0])
                self._dropped += 1
            self._deliver()

    def ask(self):
        """Send the parent a frame, now or when there is one."""
        with self._changed:
            self._asked += 1
            self._deliver()

    def give_back(self, slot):
        """Take back a slot that was lent."""
        with self._changed:
            self._free.add(slot)
            self._changed.notify_all()

    def drain(self):
        """Wait until every frame was asked for.  Raises Closed."""
        with self._changed:
            self._wait_for(lambda: not self._filled)

    def close(self):
        """Let everything that waits raise Closed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_closed(self):
        """Wait for close(); raises Closed."""
        with self._changed:
            self._wait_for(lambda: False)

    def _wait_for(self, condition):
        self._changed.wait_for(lambda: self._closed or condition())
        if self._closed:
            raise Closed

    def _deliver(self):
        while self._asked and self._filled:
            slot, facts = self._filled.popleft()
            self._asked -= 1
            self._send(dict(facts, frame=slot, dropped=self._dropped + facts.get("dropped", 0)))
        self._changed.notify_all()


def main(link_handle, *memory_handles):
    """Capture until the source ends or the parent has gone."""
    link = socket.socket(fileno=link_handle)
    commands = link.makefile("rb", buffering=0)
    lock = threading.Lock()

    def send(message):
        try:
            with lock:
                link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)

    # A service's manager ends every process of the service at once: the parent then closes the camera in order.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source = Source(**json.loads(commands.readline().decode()))
    slots = Slots(source.policy != "all", send)
    obeying = threading.Thread(target=_obey, args=(commands, slots), daemon=True)
    reader: Any = None
    try:
        try:
            _prepare()
            _wait_for(source, send, link)
            if source.kind == "device":
                source = resolved(source)
            # While there is one thread: what it gives up, those that it starts have given up.
            confined = confine(source, SLOTS * _FRAME_BYTES)
            obeying.start()
            reader = open_source(source)
            if reader.ends and source.policy == "auto":
                slots.keep_all()
            elif source.policy == "all" and not reader.ends:
                raise SourceError(is_live(source))
            send(_facts(reader, confined))
            _capture(reader, slots, memory_handles, source.name)
        except (EndOfStream, IncompleteFilm) as end:
            slots.drain()
            kind = "end" if isinstance(end, EndOfStream) else "incomplete"
            send({kind: str(end), "unreadable": reader.unreadable if reader else 0})
        except SourceError as error:
            send({"refused": str(error)})
        except ReaderError as error:
            send({"failed": str(error), "probed": error.probed})
        except CameraError as error:
            send({"error": str(error)})
        except Exception as error:  # whatever a driver raises
            send({"error": _reason(error, source)})
        # The parent reads what was sent, then closes.
        if not obeying.is_alive():
            obeying.start()
        slots.wait_closed()
    except Closed:
        if reader is not None:
            reader.close()
    os._exit(0)


def _facts(reader, confined):
    names = ("rate", "ends", "still", "notes", "granted", "as_asked")
    return dict({name: getattr(reader, name) for name in names}, opened=True, confined=confined)


def _prepare():
    import cv2

    # Everything that readers.open may import, before the rights to read modules are given up.
    from .readers import film, generated, http_camera, video  # noqa: F401
    from .v4l2 import device  # noqa: F401

    # The processor belongs to inference; decoders have threads of their own.
    cv2.setNumThreads(1)


def _reason(error, source):
    """Say what a driver or decoder raised, whatever it is, without the address that it may name."""
    said = repr(error).replace(source.location, source.name) if source.location else repr(error)
    if isinstance(error, MemoryError) or "nsufficient memory" in said:
        return "{} takes more memory than decoding is allowed; set the camera to smaller pictures".format(source.name)
    return "capture of {} failed: {}".format(source.name, said)


def _obey(commands, slots):
    try:
        for command in iter(lambda: commands.read(1), b""):
            if command[0] == NEXT:
                slots.ask()
            else:
                slots.give_back(command[0])
    finally:
        slots.close()
        # A camera is stopped in order where it lets itself be stopped.
        time.sleep(_CLOSE_TIMEOUT_S)
        os._exit(0)


def _wait_for(source, send, link):
    said = False
    hung_up = select.poll()
    hung_up.register(link, 0)  # what the parent asks for meanwhile stays in the link
    while True:
        why = absence(source)
        if not why:
            break
        if not said:
            send({"waiting": "{} is not there".format(source.name), "why": why})
            said = True
        if hung_up.poll(_LOOK_EVERY_S * 1e3):
            raise Closed
    if said:
        send({"opening": True})


def _capture(reader, slots, memory_handles, name):
    import numpy as np

    image, captured, capture_ms = reader.read()
    shape, size = image.shape, image.nbytes
    if size > _FRAME_BYTES:
        raise SourceError(too_large(shape[1], shape[0]))
    memory = np.frombuffer(mmap.mmap(reserve(memory_handles, SLOTS * size, name), SLOTS * size), np.uint8)
    places = [memory[slot * size : (slot + 1) * size].reshape(shape) for slot in range(SLOTS)]
    slot, number = slots.take(), 0
    while True:
        if image.shape != shape:
            raise CameraError(
                "the picture's size changed from {}x{} to {}x{}".format(
                    shape[1], shape[0], image.shape[1], image.shape[0]
                )
            )
        if image.ctypes.data != places[slot].ctypes.data:
            places[slot][...] = image
        facts = {
            # Frames that were dropped before they were decoded are left out of the count, too.
            "number": number + reader.dropped,
            "dropped": reader.dropped,
            "shape": shape,
            "captured": captured,
            "captured_at": time.time() - (time.monotonic() - captured),
            "capture_ms": capture_ms,
            "position_s": reader.position_s,
        }
        slots.fill(slot, facts)
        slot, number = slots.take(), number + 1
        image, captured, capture_ms = reader.read(places[slot])
