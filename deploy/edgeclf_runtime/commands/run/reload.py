"""Reload, a run whose configuration file is read again: cameras that did not change go on."""

import contextlib
import logging
from typing import TYPE_CHECKING, Callable, Dict, List, Optional, Sequence

from ...classify.decision import allowed_indices
from ...errors import CameraError, EdgeclfError
from ...text.terminal import show_message
from .camera_stream import CameraStream, label_events
from .cameras import cameras_of
from .run_sinks import check_outputs, place_outputs

if TYPE_CHECKING:
    from argparse import Namespace

    from ...sinks.live.server import LivePage
    from .streams import Streams
    from .together import Parts, Together

_log = logging.getLogger(__name__)
FIXED = (
    *("model", "backend", "threads", "tune", "device_name", "wait", "verbose", "log_level"),
    *("live", "live_token_file", "live_name", "live_open", "live_cert", "live_key", "live_proxy", "live_classify"),
)
"""Options of the whole run, which stay as they are until it is started again."""
_NOT_OPTIONS = ("own", "again", "sources", "given", "config")
_AS_BEFORE = "the configuration file was not taken, and every camera goes on as before: %s"


class Reload:
    """The cameras of a run, as its configuration file has them.

    arguments   those of the run
    streams     the streams of its cameras
    find        raises an error if there is no camera as its arguments say
    open_       opens a camera with its arguments, and returns its CameraStream, whose outputs are not open yet
    parts       report to systemd
    page        the LivePage that the cameras share, or None
    """

    def __init__(
        self,
        arguments: "Namespace",
        cameras: "Sequence[Namespace]",
        streams: "Streams",
        find: "Callable[[Namespace], object]",
        open_: "Callable[[Namespace], CameraStream]",
        parts: "Parts",
        page: "Optional[LivePage]",
    ) -> None:
        self._arguments, self._parts, self._page = arguments, parts, page
        self._find, self._open = find, open_
        self._cameras: "Dict[str, Namespace]" = {one.camera: one for one in cameras}
        self._streams = streams
        self._asked: List[bool] = []

    def ask(self) -> None:
        """Make the next look() read the file; may be called by a signal's handler."""
        self._asked.append(True)

    def look(self, together: "Together") -> None:
        """Read the file and exchange cameras, if that was asked for.  A file that is not valid changes nothing."""
        if not self._asked:
            return
        del self._asked[:]
        try:
            wanted = self._read()
        except EdgeclfError as error:
            _log.error(_AS_BEFORE, error)
        except SystemExit:
            _log.error(_AS_BEFORE, "the message above says why")
        else:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._parts.reloading())
                if self._page is not None:
                    stack.enter_context(self._page.held())
                self._exchange(wanted, together)

    def _read(self) -> "Dict[str, Namespace]":
        """Return the arguments of each camera in the file, checked; raises EdgeclfError, or SystemExit after a message."""
        arguments, _ = self._arguments.again.parse()
        changed = [name for name in FIXED if _value(arguments, name) != _value(self._arguments, name)]
        for name in ("bundle", *FIXED):
            setattr(arguments, name, _value(self._arguments, name))
        cameras = cameras_of(arguments)
        for one in cameras:
            place_outputs(one)
            label_events(one)
            allowed_indices(arguments.bundle.labels, one.allow, one.deny)
            if self._is_new(one):
                self._find(one)
        check_outputs(arguments)
        if changed:
            _log.warning(
                "%s changed in the configuration file, which takes effect when the program is started again",
                ", ".join("--" + name.replace("_", "-") for name in changed),
            )
        return {one.camera: one for one in cameras}

    def _is_new(self, one: "Namespace") -> bool:
        """Return whether a camera has changed, or was not there."""
        return one.camera not in self._cameras or _differ(self._cameras[one.camera], one)

    def _exchange(self, wanted: "Dict[str, Namespace]", together: "Together") -> None:
        new = [name for name, one in wanted.items() if self._is_new(one)]
        old = [name for name in self._cameras if name not in wanted or name in new]
        together.stop(self._streams.of(old))
        for name in old:
            self._streams.close(name)
        if self._page is not None:
            self._page.several = self._page.several or len(wanted) > 1
        self._cameras = wanted
        begun = [name for name in new if self._begin(wanted[name], together)]
        if not together.running:
            raise CameraError("no camera of the configuration file could be opened: the messages above say why")
        show_message("configuration read again: {}".format(_summary(old, new, begun, len(wanted))))

    def _begin(self, one: "Namespace", together: "Together") -> bool:
        """Open a camera and let it go; returns False, and logs why, if that is not possible."""
        try:
            stream = self._open(one)
            self._streams.add(stream)
            stream.open(True)
        except (EdgeclfError, OSError) as error:
            self._streams.close(one.camera)
            self._parts.drop(one.camera)
            _log.error("%s is left out until the file is read again: %s", one.camera or "the camera", error)
            return False
        together.start(stream)
        return True


def _value(arguments: "Namespace", name: str) -> object:
    return getattr(arguments, name, None)


def _differ(before: "Namespace", after: "Namespace") -> bool:
    """Return whether two cameras' arguments differ."""
    names = set(vars(after)).difference(_NOT_OPTIONS)
    return any(_value(before, name) != _value(after, name) for name in names)


def _summary(old: Sequence[str], new: Sequence[str], begun: Sequence[str], total: int) -> str:
    """Return what has changed, for people."""
    groups = (
        ("ended", [name for name in old if name not in new]),
        ("changed", [name for name in begun if name in old]),
        ("added", [name for name in begun if name not in old]),
        ("not opened", [name for name in new if name not in begun]),
    )
    texts = [
        "{}: {}".format(what, ", ".join(name or "the camera" for name in names)) for what, names in groups if names
    ]
    same = total - len(new)
    return "; ".join([*texts, "{} unchanged".format(same)])
