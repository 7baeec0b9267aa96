"""The capture process: drains one source into memory that its parent shares.

Started by ``capture.py``.  It is a process of its own because a read from a lost camera can
block for ever (OpenCV issue 22677) and decoders crash; the parent kills it and starts another.
When the parent goes, it goes.

Pictures lie in SLOTS slots of one shared file; what is said about them goes over a socket.
To the parent, a line of JSON each: ``{"waiting": reason}`` where the source is not there and
``{"opening": true}`` when it has come, ``{"opened": true}``, ``{"frame": slot, "shape": ..., ...}``, and at last ``{"error": reason}``
or ``{"end": reason}``.  From the parent, first the Source as a line of JSON (not as an argument: a URL can hold a
password), then a byte each: NEXT asks for a frame, any other is the number of a slot that is
free again.
"""

import collections
import json
import mmap
import os
import socket
import sys
import threading
import time
from typing import Any, Deque, Dict, Tuple

from .errors import CameraError, EndOfStream
from .sources import Source, is_there, open_source

SLOTS = 6
NEXT = 255
_AHEAD = 3  # frames of a file that are decoded before they are asked for
_LOOK_EVERY_S = 0.5


class Slots:
    """Which slots are free, filled, or lent to the parent; frames go to the parent as it asks for them.

    latest      keep the newest frame alone; without it, every frame, a few ahead
    send        takes a message to the parent
    """

    def __init__(self, latest, send):
        self._latest, self._send = latest, send
        self._ahead = 1 if latest else _AHEAD
        self._free = set(range(SLOTS))
        self._filled: Deque[Tuple[int, Dict[str, Any]]] = collections.deque()
        self._asked = 0
        self._changed = threading.Condition()
        self._dropped = 0

    def take(self):
        """Return a free slot; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._free and (self._latest or len(self._filled) < self._ahead))
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
        """Wait until every frame was asked for."""
        with self._changed:
            self._changed.wait_for(lambda: not self._filled)

    def _deliver(self):
        while self._asked and self._filled:
            slot, facts = self._filled.popleft()
            self._asked -= 1
            self._send(dict(facts, frame=slot, dropped=self._dropped))
        self._changed.notify_all()


def main(link_handle, memory_handle):
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

    source = Source(**json.loads(commands.readline().decode()))
    slots = Slots(source.policy == "latest", send)
    threading.Thread(target=_obey, args=(commands, slots), daemon=True).start()
    try:
        import cv2

        # The processor belongs to inference; decoders have threads of their own.
        cv2.setNumThreads(1)
        _wait_for(source, send)
        reader = open_source(source)
        send({"opened": True, "rate": reader.rate})
        _capture(reader, slots, memory_handle)
    except EndOfStream as end:
        slots.drain()
        send({"end": str(end)})
    except CameraError as error:
        send({"error": str(error)})
    except Exception as error:  # whatever a driver raises
        send({"error": "capture of {} failed: {!r}".format(source.name, error)})
    # The parent reads what was sent, then closes.
    threading.Event().wait()


def _obey(commands, slots):
    try:
        for command in iter(lambda: commands.read(1), b""):
            if command[0] == NEXT:
                slots.ask()
            else:
                slots.give_back(command[0])
    finally:
        os._exit(0)


def _wait_for(source, send):
    said = False
    while not is_there(source):
        if not said:
            send({"waiting": "{} is not there".format(source.name)})
            said = True
        time.sleep(_LOOK_EVERY_S)
    if said:
        send({"opening": True})


def _capture(reader, slots, memory_handle):
    import numpy as np

    image, captured, capture_ms = reader.read()
    shape, size = image.shape, image.nbytes
    os.ftruncate(memory_handle, SLOTS * size)
    memory = np.frombuffer(mmap.mmap(memory_handle, SLOTS * size), np.uint8)
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
            "number": number,
            "shape": shape,
            "captured": captured,
            "captured_at": time.time() - (time.monotonic() - captured),
            "capture_ms": capture_ms,
        }
        slots.fill(slot, facts)
        slot, number = slots.take(), number + 1
        image, captured, capture_ms = reader.read(places[slot])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
