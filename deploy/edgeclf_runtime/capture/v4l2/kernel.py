"""The modes and controls of a camera device of Linux (Video4Linux 2): the few kernel calls that OpenCV lacks.

Knows nothing of OpenCV.  Structures and numbers are those of linux/videodev2.h.
"""

import contextlib
import errno
import os
import re
import struct
from typing import Dict, List, NamedTuple, Tuple

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
_MOST = 200  # entries of any list
# Names of the same controls by Linux before 5.17 and since, and the short ones that people use.
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
    """A size that a camera offers: its format (four characters), the sides' ranges in pixels, and the highest rate."""

    format: str
    widths: Tuple[int, int]
    heights: Tuple[int, int]
    fps: float


class Control(NamedTuple):
    """A control of a camera: its name as v4l2-ctl shows it, and what it takes."""

    id: int
    name: str
    type: int
    least: int
    most: int
    flags: int


def _call(handle, number, layout, *values):
    """Call the kernel with a structure; returns its fields.  Raises OSError."""
    import fcntl

    data = bytearray(struct.pack(layout, *values))
    fcntl.ioctl(handle, _READ_WRITE << 30 | len(data) << 16 | ord("V") << 8 | number, data)
    return struct.unpack(layout, data)


def fourcc_name(code):
    """Return a format's four characters by its number, "" for none."""
    name = struct.pack("<I", code & 0xFFFFFFFF).decode("latin-1").rstrip("\0 ")
    return name if code > 0 and name.isprintable() else ""


def fourcc(name):
    """Return a format's number by its four characters."""
    return struct.unpack("<I", name.encode("latin-1").ljust(4)[:4])[0]


@contextlib.contextmanager
def opened(path):
    """Open a device beside whoever reads it; gives the handle.  Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


def modes(handle):
    """Return the Modes that a camera offers; none if its driver lists none."""
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


def _each(handle, number, layout, *fields):
    """Yield what the kernel lists by an index, the structure's first field."""
    for index in range(_MOST):
        try:
            yield _call(handle, number, layout, index, *fields)
        except OSError:
            return


def _highest_rate(handle, code, width, height):
    rates = [0.0]
    for fields in _each(handle, _ENUM_RATES, _RATES, code, width, height, *[0] * 9):
        seconds, parts = fields[5:7]  # the shortest interval; of a list, this one
        rates.append(parts / seconds if seconds else 0.0)
    return max(rates)


def controls(handle):
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


def _text(data):
    return data.partition(b"\0")[0].decode("utf-8", "replace")


def variable_name(name):
    """Return a control's name as v4l2-ctl shows it: "Exposure Time, Absolute" as exposure_time_absolute."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def set_controls(handle, wanted: Dict[str, str], name):
    """Set controls by their names; returns sentences about those that the camera did not take as asked.

    wanted      values by control, as text: a number, on or off, an entry of a menu
    name        of the camera, for messages

    Raises SourceError, with what there is, for a control or value that the camera has not.
    """
    offered = controls(handle)
    chosen = [(_find(offered, key, name), str(value)) for key, value in wanted.items()]
    # A manual exposure is refused while the automatic one is on.
    chosen.sort(key=lambda pair: pair[0].id not in _AUTOMATIC)
    return [said for control, text in chosen for said in [_set(handle, control, text, name)] if said]


def _find(offered, key, name):
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


def _set(handle, control, text, name):
    value = _value(handle, control, text)
    if value is None:
        raise SourceError("{}: {!r} is no value of {}: {}".format(name, text, control.name, _choice(handle, control)))
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
    return "{} is {}, {} was asked{}".format(
        control.name, granted, value, _while_automatic(control) if inactive else ""
    )


def _while_automatic(control):
    ways = {
        0x9A0902: "auto_exposure=1",
        0x98091A: "white_balance_automatic=0",
        0x9A090A: "focus_automatic_continuous=0",
    }
    return "; set {} too".format(ways[control.id]) if control.id in ways else ""


def _value(handle, control, text):
    """Return the number that a text is to a control, or None."""
    number = _SWITCHES.get(text.lower()) if control.type == _BOOLEAN else None
    if number is None and re.fullmatch("[+-]?[0-9]{1,10}", text):
        number = int(text)
    entries = _entries(handle, control)
    if number is None:
        number = next((index for index, entry in entries.items() if variable_name(entry) == variable_name(text)), None)
    if number is None or not control.least <= number <= control.most or (entries and number not in entries):
        return None
    return number


def _entries(handle, control):
    """Return the names of a menu's entries by their number."""
    if control.type != _MENU_TYPE:
        return {}
    found = {}
    for index in range(control.least, min(control.most, control.least + _MOST) + 1):
        with contextlib.suppress(OSError):
            found[index] = _text(_call(handle, _QUERYMENU, _MENU, control.id, index, b"", 0)[2])
    return found


def _choice(handle, control):
    """Return what a control takes, as people read it."""
    entries = _entries(handle, control)
    if entries:
        return ", ".join("{} ({})".format(index, entry) for index, entry in entries.items()) + " can be set"
    if control.type == _BOOLEAN:
        return "0 (off) or 1 (on) was expected"
    return "{} to {} was expected".format(control.least, control.most)
