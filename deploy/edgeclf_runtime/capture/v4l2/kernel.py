"""A camera device's modes and controls (Video4Linux 2), through the few kernel calls that OpenCV lacks.

Structures and numbers are those of linux/videodev2.h.
"""

import contextlib
import errno
import os
import re
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

from ...errors import SourceError

_READ_WRITE = 3
_FORMATS, _SIZES, _RATES = "III32sII3I", "III6I2I", "IIIII6I2I"
_CONTROL, _MENU, _VALUE = "II32siiiiI2I", "=II32sI", "Ii"
_ENUM_FMT, _G_CTRL, _S_CTRL, _QUERYCTRL, _QUERYMENU, _ENUM_SIZES, _ENUM_RATES = 2, 27, 28, 36, 37, 74, 75
_VIDEO_CAPTURE = 1  # buffer type
_DISCRETE = 1
_NEXT_CONTROL = 0x80000000
_DISABLED, _READ_ONLY, _INACTIVE = 1, 4, 16
_INTEGER, _BOOLEAN, _MENU_TYPE, _INTEGER_MENU = 1, 2, 3, 9
_MOST = 200  # entries in any list
# Names of the same controls in Linux before and since 5.17, and the short names that people use.
_ALIASES = {
    "exposure": (0x9A0902, 0x980911),
    "exposure_absolute": (0x9A0902,),
    "exposure_time_absolute": (0x9A0902,),
    "auto_exposure": (0x9A0901,),
    "exposure_auto": (0x9A0901,),
    "white_balance": (0x98091A,),
    "white_balance_temperature": (0x98091A,),
    "auto_white_balance": (0x98090C,),
    "white_balance_automatic": (0x98090C,),
    "white_balance_temperature_auto": (0x98090C,),
    "focus": (0x9A090A,),
    "focus_absolute": (0x9A090A,),
    "auto_focus": (0x9A090C,),
    "focus_auto": (0x9A090C,),
    "focus_automatic_continuous": (0x9A090C,),
    "zoom": (0x9A090D,),
}
_AUTOMATIC = (0x9A0901, 0x98090C, 0x9A090C, 0x980912)
_SWITCHES = {"on": 1, "true": 1, "yes": 1, "off": 0, "false": 0, "no": 0}


class Mode(NamedTuple):
    """A size that a camera offers: its format (four characters), the range of each side in pixels, and the highest rate."""

    format: str
    widths: Tuple[int, int]
    heights: Tuple[int, int]
    fps: float


class Control(NamedTuple):
    """A camera's control: its name in v4l2-ctl, and the values it accepts."""

    id: int
    name: str
    type: int
    least: int
    most: int
    flags: int


def _call(handle: int, number: int, layout: str, *values: Union[int, bytes]) -> Tuple[Any, ...]:
    """Call the kernel with a structure; returns its fields.  Raises OSError."""
    import fcntl

    data = bytearray(struct.pack(layout, *values))
    fcntl.ioctl(handle, _READ_WRITE << 30 | len(data) << 16 | ord("V") << 8 | number, data)
    return struct.unpack(layout, data)


def fourcc_name(code: int) -> str:
    """Return the four characters of a format's number, "" for none."""
    name = struct.pack("<I", code & 0xFFFFFFFF).decode("latin-1").rstrip("\0 ")
    return name if code > 0 and name.isprintable() else ""


def fourcc(name: str) -> int:
    """Return the number of a format's four characters."""
    return int.from_bytes(name.encode("latin-1").ljust(4)[:4], "little")


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a device while another program may be reading it; yields the handle.  Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def modes(handle: int) -> List[Mode]:
    """Return the Modes that a camera offers; an empty list if its driver lists none."""
    found: List[Mode] = []
    for fields in _each(handle, _ENUM_FMT, _FORMATS, _VIDEO_CAPTURE, 0, b"", 0, 0, 0, 0, 0):
        code = fields[4]
        for size in _each(handle, _ENUM_SIZES, _SIZES, code, *[0] * 9):
            sides = size[3:9]
            discrete = size[2] == _DISCRETE
            widths = (sides[0], sides[0]) if discrete else (sides[0], sides[1])
            heights = (sides[1], sides[1]) if discrete else (sides[3], sides[4])
            found.append(Mode(fourcc_name(code), widths, heights, _highest_rate(handle, code, widths[1], heights[1])))
    return found


def _each(handle: int, number: int, layout: str, *fields: Union[int, bytes]) -> Iterator[Tuple[Any, ...]]:
    """Yield the entries that the kernel lists by an index, the structure's first field."""
    for index in range(_MOST):
        try:
            yield _call(handle, number, layout, index, *fields)
        except OSError:
            return


def _highest_rate(handle: int, code: int, width: int, height: int) -> float:
    rates = [0.0]
    for fields in _each(handle, _ENUM_RATES, _RATES, code, width, height, *[0] * 9):
        seconds, parts = fields[5:7]  # the shortest interval of a range, or one of a list
        rates.append(parts / seconds if seconds else 0.0)
    return max(rates)


def controls(handle: int) -> List[Control]:
    """Return the Controls that can be set."""
    found: List[Control] = []
    last = 0
    for _ in range(_MOST):
        try:
            fields = _call(handle, _QUERYCTRL, _CONTROL, last | _NEXT_CONTROL, 0, b"", *[0] * 7)
        except OSError:
            return found
        last, kind, name, least, most, _step, _default, flags = fields[:8]
        if kind in (_INTEGER, _BOOLEAN, _MENU_TYPE, _INTEGER_MENU) and not flags & (_DISABLED | _READ_ONLY):
            found.append(Control(last, variable_name(_text(name)), kind, least, most, flags))
    return found


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def variable_name(name: str) -> str:
    """Return a control's name as v4l2-ctl shows it: "Exposure Time, Absolute" becomes exposure_time_absolute."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def set_controls(handle: int, wanted: Dict[str, str], name: str) -> List[str]:
    """Set controls by name; returns a sentence for each that the camera did not set as requested.

    wanted      values by control, as text: a number, on or off, or a menu entry
    name        the camera's name, for messages

    Raises SourceError, listing the valid ones, for a control or value that the camera does not have.
    """
    offered = controls(handle)
    chosen = [(_find(offered, key, name), str(value)) for key, value in wanted.items()]
    # Automatic controls first: a manual exposure is refused while automatic exposure is on.
    chosen.sort(key=lambda pair: pair[0].id not in _AUTOMATIC)
    return [note for control, text in chosen for note in [_set(handle, control, text, name)] if note]


def _find(offered: Sequence[Control], key: str, name: str) -> Control:
    wanted = variable_name(key)
    by_id = {control.id: control for control in offered}
    found = [control for control in offered if control.name == wanted]
    found += [by_id[number] for number in _ALIASES.get(wanted, ()) if number in by_id]
    if not found:
        raise SourceError(
            "{} has no control {!r}; it has {}".format(
                name, key, ", ".join(sorted(control.name for control in offered)) or "none"
            )
        )
    return found[0]


def _set(handle: int, control: Control, text: str, name: str) -> str:
    value = _value(handle, control, text)
    if value is None:
        raise SourceError(
            "{}: {!r} is not a valid value for {}: {}".format(name, text, control.name, _choice(handle, control))
        )
    try:
        _call(handle, _S_CTRL, _VALUE, control.id, value)
        granted = _call(handle, _G_CTRL, _VALUE, control.id, 0)[1]
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EINVAL, errno.ERANGE, errno.EBUSY, errno.EPERM):
            raise
        return "{} was not set to {} ({}){}".format(control.name, text, error.strerror, _while_automatic(control))
    inactive = _call(handle, _QUERYCTRL, _CONTROL, control.id, 0, b"", *[0] * 7)[7] & _INACTIVE
    if granted == value and not inactive:
        return ""
    return "{} is {}, {} was requested{}".format(
        control.name, granted, value, _while_automatic(control) if inactive else ""
    )


def _while_automatic(control: Control) -> str:
    ways = {
        0x9A0902: "auto_exposure=1",
        0x98091A: "white_balance_automatic=0",
        0x9A090A: "focus_automatic_continuous=0",
    }
    return "; also set {}".format(ways[control.id]) if control.id in ways else ""


def _value(handle: int, control: Control, text: str) -> Optional[int]:
    """Return the number that a text means for a control, or None."""
    number = _SWITCHES.get(text.lower()) if control.type == _BOOLEAN else None
    if number is None and re.fullmatch("[+-]?[0-9]{1,10}", text):
        number = int(text)
    entries = _entries(handle, control)
    if number is None:
        number = next((index for index, entry in entries.items() if variable_name(entry) == variable_name(text)), None)
    if number is None or not control.least <= number <= control.most or (entries and number not in entries):
        return None
    return number


def _entries(handle: int, control: Control) -> Dict[int, str]:
    """Return the names of a menu's entries by number."""
    if control.type != _MENU_TYPE:
        return {}
    found: Dict[int, str] = {}
    for index in range(control.least, min(control.most, control.least + _MOST) + 1):
        with contextlib.suppress(OSError):
            found[index] = _text(_call(handle, _QUERYMENU, _MENU, control.id, index, b"", 0)[2])
    return found


def _choice(handle: int, control: Control) -> str:
    """Return the values that a control accepts, for a message."""
    entries = _entries(handle, control)
    if entries:
        return "expected one of " + ", ".join("{} ({})".format(index, entry) for index, entry in entries.items())
    if control.type == _BOOLEAN:
        return "expected 0 (off) or 1 (on)"
    return "expected {} to {}".format(control.least, control.most)
