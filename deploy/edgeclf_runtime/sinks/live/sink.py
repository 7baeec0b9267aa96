"""LiveSink, a web page that shows what the camera sees and the classifier's results.

Frames are copied only while someone watches, and encoded in the clients' threads, once for all of them; classification
never waits for a browser.  ``sinks/live/server.py`` serves the page.
"""

import collections
import re
import threading
import time
from typing import TYPE_CHECKING, Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from ...bundle.examples import examples_of
from ...images.jpeg import MAX_SIDE, encode_jpeg
from ...results import NOWHERE, Origin
from ..base import Sink
from ..conditions import BACKEND, CAMERA, HEALTH, Conditions
from .history import Band, History
from .metrics import Metrics
from .overview import PREFIX
from .posted.classify_queue import ClassifyQueue
from .server import LivePage

if TYPE_CHECKING:
    import numpy as np

    from ...bundle.open_bundle import Bundle, VerifiedFile
    from ...files.schema import JsonObject
    from ...results import LabelEvent, Limits, Result, StreamEvent, StreamResult
    from ...text.prometheus import Family
    from .access import Access

PICTURES_PER_S = 15
WATCHED_S = 2.0  # frames are kept this long after a client last waited for one
SILENT_S = 3.0  # without a frame for longer, a stream is not called live
_PIPELINE = re.compile(r"gst://.*", re.DOTALL)  # its properties can hold passwords, and its end is not recognizable
_ADDRESS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://)\S+")
_FOLDERS = re.compile(r"(?<![\w./:])/(?!dev/)(?:[^\s/]+/)+([^\s/]*)")


class LiveSink(Sink):
    """Shows each result on a page at ``url`` while it is open.

    address     ":8080" or "8080" for this machine only, "HOST:8080" for everyone who can reach that address
                ("0.0.0.0:8080": every network of this machine); port 0 takes a free one; or a LivePage, to share its server with
                other cameras
    labels      the names of the classes, in the order of the logits
    title       the page's title
    access      an Access (``sinks/live/access.py``), unless ``address`` is a LivePage; without one, a token is generated if a network can reach the page
    source      the URI of the source of frames, which the page does not show
    limits      function that returns the Limits of a model, by its name; without it, the page does not say why a result is unknown
    bundle      the Bundle whose examples the page shows, if it has any
    classify    function that returns the Result of BGR pixels, for pictures that are posted; None: they are refused
    origin      the Origin of those results; its camera is the name of this one on a shared page

    region      function that returns the part that is classified, of a frame with a width and a height: x, y, width and height as
                fractions of its sides; None: the whole frame

    ``examples`` are the pictures of training images that may be served, VerifiedFiles by number.

    ``first`` is True if the page was not served before.  ``url`` is the page's address, ``invitation`` the same with a generated token.

    Raises OutputError if the address is not valid, or cannot be listened on.
    """

    def __init__(
        self,
        address: Union[str, LivePage],
        labels: Sequence[str],
        title: str = "",
        access: "Optional[Access]" = None,
        source: str = "",
        limits: "Optional[Callable[[str], Limits]]" = None,
        bundle: "Optional[Bundle]" = None,
        classify: "Optional[Callable[[np.ndarray], Result]]" = None,
        origin: Origin = NOWHERE,
        region: "Optional[Callable[[int, int], Tuple[float, float, float, float]]]" = None,
    ) -> None:
        self.labels, self.title = tuple(labels), title
        self._source, self._limits, self._region = source, limits, region
        self._size: Optional[Tuple[int, int]] = None  # width and height of the newest frame
        self.examples: "Dict[int, VerifiedFile]" = {} if bundle is None else examples_of(bundle)
        self._version = "" if bundle is None else bundle.id[:12]
        self.queue = None if classify is None else ClassifyQueue(classify, origin)
        self.frames = 0
        self.closed = False
        self._news = 0  # results and events so far
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._watched_until = 0.0
        self._due = 0.0  # no image is encoded before this time
        self._kept: "Tuple[int, Optional[np.ndarray]]" = (0, None)
        self._jpeg: Tuple[int, bytes] = (0, b"")
        self._times: Deque[float] = collections.deque(maxlen=31)
        self._item: "Optional[StreamResult]" = None
        self._conditions = Conditions()
        self._history, self._band = History(), Band()
        self._name = origin.camera
        self._metrics = Metrics(self._name or camera_name(source), self._version)
        self._since = time.monotonic()
        self._page = address if isinstance(address, LivePage) else LivePage(address, access)
        self._server, self.first = self._page.join(self._name, self)
        place = "{}{}/".format(PREFIX[1:], self._name) if self._page.several else ""
        self.url, self.invitation = self._server.url + place, self._server.invitation

    def write(self, item: "StreamResult") -> None:
        now = time.monotonic()
        image = item.frame.image.copy() if now < self._watched_until else None
        with self._changed:
            self.frames += 1
            self._metrics.take(item)
            self._band.take(item.result.label, now)
            self._times.append(now)
            self._size = item.frame.image.shape[1], item.frame.image.shape[0]
            self._item = item._replace(frame=item.frame._replace(image=None))  # type: ignore[arg-type]
            if image is not None:
                self._kept = (self.frames, image)
            if self._conditions.trouble(CAMERA) is not None:
                self._conditions.forget(CAMERA)
                self._since = now
            self._notify()

    def event(self, event: "StreamEvent") -> None:
        event = event._replace(reason=public(event.reason, self._source), origin=_unnamed(event.origin))
        with self._changed:
            self._conditions.take(event)
            self._history.take(event.to_dict())
            self._metrics.event(event)
            if self._conditions.get(CAMERA) is event:
                self._since = time.monotonic()
            self._notify()

    def label_event(self, event: "LabelEvent") -> None:
        event = event._replace(origin=_unnamed(event.origin))
        with self._changed:
            self._history.take(event.to_dict())
            self._notify()

    def events(self) -> "List[JsonObject]":
        """Return the latest events of labels and states as JSON can hold them, the newest last."""
        with self._changed:
            return self._history.events

    def band(self) -> "List[JsonObject]":
        """Return the labels of the last hour; see Band.runs()."""
        with self._changed:
            return self._band.runs(time.monotonic())

    def _notify(self) -> None:
        self._news += 1
        self._changed.notify_all()

    def wake(self) -> None:
        """Make everything that waits check whether its client is gone."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, after: int, timeout_s: float, gone: Callable[[], bool]) -> int:
        """Return the number of results and events so far, once it is larger than ``after`` or the time is over.

        gone        function that returns whether the client has left, so that there is nothing to wait for
        """
        with self._changed:
            self._changed.wait_for(lambda: self.closed or gone() or self._news > after, timeout_s)
            return self._news

    def picture(self, after: int, timeout_s: float, gone: Callable[[], bool]) -> Optional[Tuple[int, bytes]]:
        """Return (number, JPEG) of the newest frame, or None if none arrives in time.

        after       the number of the image that the client has; it gets a later one
        gone        function that returns whether the client has left
        """
        with self._changed:
            self._watched_until = time.monotonic() + timeout_s + WATCHED_S
            # The kept frame may be old, if nobody was watching.
            past = max(after, self.frames - 1)
            self._changed.wait_for(lambda: self.closed or gone() or self._kept[0] > past, timeout_s)
            if self.closed or gone() or self._kept[0] <= past:
                return None
        with self._encoding:
            if self._jpeg[0] <= after or time.monotonic() >= self._due:
                time.sleep(max(self._due - time.monotonic(), 0))
                number, image = self._kept
                if image is not None and number != self._jpeg[0]:
                    self._jpeg = (number, encode_jpeg(image, most_side=MAX_SIDE))
                self._due = time.monotonic() + 1.0 / PICTURES_PER_S
            return self._jpeg

    def state(self) -> Dict[str, object]:
        """Return what the page shows, as JSON can hold it.

        camera, shared  the camera's name; whether the page of all cameras is two folders above
        state, reason   "live", "silent" (no frame for SILENT_S), or the state and the reason of the last StreamEvent
        state_s         seconds in that state; for "silent", since the last frame
        degraded        why a worse model or backend has taken over, or ""
        changed         in what images or results differ from training: verdicts; and ``changed_reason``, with the figures
        frames          results so far
        events          events of labels and states so far
        frames_per_s    over the last seconds
        region          the part of the frames that is classified, as fractions: x, y, width and height; None: the whole
        result          the newest StreamResult's own fields, or None before the first
        why             why it is unknown, or its distance if it has one, or ""
        nearest         the nearest training images: label, and the address of the picture or None
        room            what the model's results may have, so that the page keeps room for it: "why", "label_set", "nearest",
                        "pictures" of those
        """
        with self._changed:
            now, item, since = time.monotonic(), self._item, self._since
            lost, degraded, changed = map(self._conditions.trouble, (CAMERA, BACKEND, HEALTH))
            times, frames, events, size = list(self._times), self.frames, self._history.count, self._size
        silent_s = now - (times[-1] if times else since)
        state, state_s = ("live", now - since) if times and silent_s < SILENT_S else ("silent", silent_s)
        return {
            "title": self.title,
            "camera": self._name,
            "shared": self._page.several,
            "state": lost.state if lost else state,
            "state_s": round(now - since if lost else state_s, 3),
            "reason": lost.reason if lost else "",
            "degraded": degraded.reason if degraded else "",
            "changed": list(changed.verdicts) if changed else [],
            "changed_reason": changed.reason if changed else "",
            "frames": frames,
            "events": events,
            "frames_per_s": round(_rate([moment for moment in times if now - moment < SILENT_S]), 2),
            "dropped": item.dropped if item else 0,
            "region": self._region(*size) if self._region and size else None,
            "result": item._replace(origin=_unnamed(item.origin)).to_dict() if item else None,
            **self._explanation(item.result if item else None),
        }

    def families(self) -> "List[Family]":
        """Return the stream's counts as Prometheus has them."""
        state, posted = self.state(), [] if self.queue is None else self.queue.counts.families()
        with self._changed:
            return self._metrics.families(state, posted)

    def _explanation(self, result: "Optional[Result]") -> Dict[str, object]:
        if result is None or self._limits is None:
            return {"why": "", "nearest": [], "room": []}
        limits = self._limits(result.model)
        room = {"why": limits.explains, "label_set": limits.sets, "nearest": limits.most_distance is not None}
        room["pictures"] = room["nearest"] and bool(self.examples)
        nearest: "List[Dict[str, Optional[str]]]" = [
            {"label": one.label, "picture": self._picture_of(one.image)} for one in result.nearest
        ]
        return {
            "why": limits.explain(result),
            "nearest": nearest,
            "room": sorted(name for name, kept in room.items() if kept),
        }

    def _picture_of(self, image: int) -> Optional[str]:
        """Return the address of a training image's picture: another one for another bundle, since browsers keep it."""
        return "examples/{}.jpg?bundle={}".format(image, self._version) if image in self.examples else None

    def close(self) -> None:
        with self._changed:
            if self.closed:
                return
            self.closed = True
            self._changed.notify_all()
        if self.queue is not None:
            self.queue.close()
        self._page.leave(self._name)


def camera_name(source: str) -> str:
    """Return a name of a camera without its address and folders: "video0" for /dev/video0, "rtsp" for rtsp://HOST/PATH."""
    scheme, found, rest = source.partition("://")
    if not found:
        return source.rstrip("/").rpartition("/")[2]
    return scheme + rest if rest.isdigit() else scheme


def _unnamed(origin: Origin) -> Origin:
    """Return an Origin without the camera's address, which visitors must not learn."""
    return origin._replace(source="")


def public(reason: str, source: str = "") -> str:
    """Return the reason of an event as visitors may see it: without the source's URI, other addresses, and folders."""
    if "/" in source:
        scheme, _, rest = source.partition("://")
        # Messages leave out the user and the password; those of libraries name a pipeline without gst://.
        for name in (source, "{}://{}".format(scheme, rest.rpartition("@")[2]), rest):
            reason = reason.replace(name, "the camera") if "/" in name.strip("/:") else reason
    return _FOLDERS.sub(r"\1", _ADDRESS.sub(r"\1...", _PIPELINE.sub("the camera: see the program's log", reason)))


def _rate(moments: Sequence[float]) -> float:
    return (len(moments) - 1) / (moments[-1] - moments[0]) if len(moments) > 1 else 0.0
