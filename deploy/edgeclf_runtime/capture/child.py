"""The capture process: reads one source into memory that it shares with its parent, ``capture/parent.py``.

It is a separate process because a read from a lost camera can block forever (OpenCV issue 22677) and decoders crash;
the parent then kills it and starts another.  It ends when its parent ends.  Before it opens its source it gives up the
rights that decoders do not need, see ``capture/sandbox/confine.py``.

Images lie in SLOTS slots of one shared file; messages about them go over a socket.  To the parent, one JSON object per
line: ``{"waiting": name, "why": reason}`` if the source is not available and ``{"opening": true}`` once it is,
``{"opened": true, ...}``, ``{"frame": slot, "shape": ..., ...}``, and last ``{"end": reason}``,
``{"incomplete": reason}``, ``{"error": reason}``, ``{"failed": what, "probed": ...}`` (the reader wrote the reason to
stderr) or ``{"refused": reason}`` (opening it again would not help) or ``{"unfit": reason}`` (of the hardware's decoder).  Before it
opens a source by hardware it says ``{"decoder": name}``, "" if it turns to software.  From the parent, first the Source as one line of
JSON (not as an argument: a URL can hold a password), then single bytes: NEXT requests a frame, REST and WAKE say whether one
every REST_EVERY_S is enough, any other value is the number of a slot that is free again.  The process ends when the parent closes the socket.
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
from typing import IO, Callable, Deque, List, Optional, Sequence, Tuple

from ..errors import CameraError, EndOfStream, IncompleteFilm, SourceError
from ..images.read import MAX_PIXELS
from .frame_memory import reserve
from .hardware.choose import with_decoder
from .messages import Message
from .readers.open_source import open_source
from .readers.reader import DecoderError, Reader, ReaderError
from .sandbox.confine import confine
from .source import Source, absence, is_live, too_large
from .v4l2.device import resolved

SLOTS = 6
NEXT, REST, WAKE = 255, 254, 253
REST_EVERY_S = 0.1
_AHEAD = 3  # frames of a file that are decoded in advance
_CHECK_EVERY_S = 0.5
# Time for closing the camera after the link has ended; a parent that still runs kills sooner.
_CLOSE_TIMEOUT_S = 3.0
_FRAME_BYTES = 3 * MAX_PIXELS


class Closed(BaseException):
    """The parent has closed the link.  Not an Exception, so that nothing reports it as a failure."""


class Slots:
    """Keeps track of the slots that are free, filled or lent to the parent, and sends frames as the parent requests them.

    latest      keep only the newest frame; otherwise every frame, a few ahead
    send        function that sends a message to the parent
    """

    def __init__(self, latest: bool, send: Callable[[Message], None]) -> None:
        self._latest, self._send = latest, send
        self._free = set(range(SLOTS))
        self._filled: Deque[Tuple[int, Message]] = collections.deque()
        self._requested = 0
        self._changed = threading.Condition()
        self._closed = False
        self._dropped = 0
        self._resting = False

    def keep_all(self) -> None:
        """Keep every frame from now on; call it before the first."""
        self._latest = False

    @property
    def _ahead(self) -> int:
        return 1 if self._latest else _AHEAD

    def take(self) -> int:
        """Return a free slot, waiting for one if necessary.  Raises Closed."""
        with self._changed:
            self._wait_for(lambda: self._free and (self._latest or len(self._filled) < self._ahead))
            # Use as few slots as possible, so that their memory stays in the processor's cache.
            slot = min(self._free)
            self._free.remove(slot)
            return slot

    def fill(self, slot: int, facts: Message) -> None:
        """Hand over a frame that was stored in a slot."""
        with self._changed:
            self._filled.append((slot, facts))
            if len(self._filled) > self._ahead:
                self._free.add(self._filled.popleft()[0])
                self._dropped += 1
            self._deliver()

    def ask(self) -> None:
        """Send the parent a frame: now, or as soon as there is one."""
        with self._changed:
            self._requested += 1
            self._deliver()

    def rest(self, resting: bool) -> None:
        """Let the camera rest, or not."""
        self._resting = resting

    def resting(self) -> bool:
        """Return whether a frame now and then is enough: only for the newest ones, and as long as the parent is there."""
        return self._resting and self._latest and not self._closed

    def give_back(self, slot: int) -> None:
        """Take back a slot that the parent had."""
        with self._changed:
            self._free.add(slot)
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until the parent has requested every frame.  Raises Closed."""
        with self._changed:
            self._wait_for(lambda: not self._filled)

    def close(self) -> None:
        """Make everything that waits raise Closed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_closed(self) -> None:
        """Wait for close(); raises Closed."""
        with self._changed:
            self._wait_for(lambda: False)

    def _wait_for(self, condition: Callable[[], object]) -> None:
        self._changed.wait_for(lambda: self._closed or condition())
        if self._closed:
            raise Closed

    def _deliver(self) -> None:
        while self._requested and self._filled:
            slot, facts = self._filled.popleft()
            self._requested -= 1
            self._send(dict(facts, frame=slot, dropped=self._dropped + facts.get("dropped", 0)))
        self._changed.notify_all()


def main(link_handle: int, *memory_handles: int) -> None:
    """Capture until the source ends or the parent is gone."""
    link = socket.socket(fileno=link_handle)
    commands = link.makefile("rb", buffering=0)
    lock = threading.Lock()

    def send(message: Message) -> None:
        try:
            with lock:
                link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)

    # systemd sends SIGTERM to all processes of a service at once; it is the parent that then closes the camera.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    source = Source(**json.loads(commands.readline().decode()))
    slots = Slots(source.policy != "all", send)
    obeying = threading.Thread(target=_obey, args=(commands, slots), daemon=True)
    reader: Optional[Reader] = None
    try:
        try:
            _prepare()
            _wait_for(source, send, link)
            if source.kind == "device":
                source = resolved(source)
            source = with_decoder(source, lambda name: send({"decoder": name}))
            # Before the first thread is started: later threads inherit the restrictions.
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
        except DecoderError as error:
            send({"unfit": str(error)})
        except ReaderError as error:
            send({"failed": str(error), "probed": error.probed})
        except CameraError as error:
            send({"error": str(error)})
        except Exception as error:  # drivers and decoders raise anything
            send({"error": _reason(error, source)})
        # The parent reads what was sent, then closes the link.
        if not obeying.is_alive():
            obeying.start()
        slots.wait_closed()
    except Closed:
        if reader is not None:
            reader.close()
    os._exit(0)


def _facts(reader: Reader, confined: List[str]) -> Message:
    names = ("rate", "ends", "still", "notes", "granted", "as_asked")
    return dict({name: getattr(reader, name) for name in names}, opened=True, confined=confined)


def _prepare() -> None:
    import cv2

    # Everything that readers.open may import, before the right to read files is given up.
    from .readers import generated, hardware_stream, http_camera, opencv_reader, video_file  # noqa: F401
    from .v4l2 import device  # noqa: F401

    # Leave the processor to inference; decoders have their own threads.
    cv2.setNumThreads(1)


def _reason(error: Exception, source: Source) -> str:
    """Describe what a driver or decoder raised, with the source's address replaced by its name."""
    text = repr(error)
    for private in filter(None, (source.pipeline, source.location)):
        text = text.replace(private, source.name)
    if isinstance(error, MemoryError) or "nsufficient memory" in text:
        return "decoding {} needs more memory than is allowed; set the camera to a smaller frame size".format(
            source.name
        )
    return "capture of {} failed: {}".format(source.name, text)


def _obey(commands: IO[bytes], slots: Slots) -> None:
    try:
        for command in iter(lambda: commands.read(1), b""):
            if command[0] == NEXT:
                slots.ask()
            elif command[0] in (REST, WAKE):
                slots.rest(command[0] == REST)
            else:
                slots.give_back(command[0])
    finally:
        slots.close()
        # Leave the main thread some time to close the camera.
        time.sleep(_CLOSE_TIMEOUT_S)
        os._exit(0)


def _wait_for(source: Source, send: Callable[[Message], None], link: socket.socket) -> None:
    reported = False
    hung_up = select.poll()
    hung_up.register(link, 0)  # no event but the hang-up; requests stay unread in the link
    while True:
        why = absence(source)
        if not why:
            break
        if not reported:
            send({"waiting": "{} is not available".format(source.name), "why": why})
            reported = True
        if hung_up.poll(_CHECK_EVERY_S * 1e3):
            raise Closed
    if reported:
        send({"opening": True})


def _capture(reader: Reader, slots: Slots, memory_handles: Sequence[int], name: str) -> None:
    import numpy as np

    image, captured, capture_ms = reader.read()
    shape, size = image.shape, image.nbytes
    if size > _FRAME_BYTES:
        raise SourceError(too_large(shape[1], shape[0]))
    memory = np.frombuffer(mmap.mmap(reserve(memory_handles, SLOTS * size, name), SLOTS * size), np.uint8)
    images = [memory[slot * size : (slot + 1) * size].reshape(shape) for slot in range(SLOTS)]
    slot, number = slots.take(), 0
    while True:
        if image.shape != shape:
            raise CameraError(
                "the frame size changed from {}x{} to {}x{}".format(shape[1], shape[0], image.shape[1], image.shape[0])
            )
        if image.ctypes.data != images[slot].ctypes.data:
            images[slot][...] = image
        facts = {
            # Frames that were dropped before they were decoded leave gaps in the numbers, too.
            "number": number + reader.dropped + reader.rested,
            "dropped": reader.dropped,
            "rested": reader.rested,
            "shape": shape,
            "captured": captured,
            "captured_at": time.time() - (time.monotonic() - captured),
            "capture_ms": capture_ms,
            "position_s": reader.position_s,
        }
        slots.fill(slot, facts)
        slot, number = slots.take(), number + 1
        reader.rest(captured + REST_EVERY_S, slots.resting)
        image, captured, capture_ms = reader.read(images[slot])
