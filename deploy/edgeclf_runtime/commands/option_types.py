"""Parses the values of command line options; argparse.ArgumentTypeError says what was expected."""

import argparse
from typing import Any, Dict, Tuple, Union

from ..results import A_DEVICE_NAME, is_device_name

PRECISIONS = ("best", "fp32", "fp16", "int8")
Region = Union[Tuple[int, int, int, int], Tuple[float, float, float, float]]


def device_name(text: str) -> str:
    """Return a device's name."""
    if not is_device_name(text):
        raise argparse.ArgumentTypeError("{!a} is not a valid device name; {} was expected".format(text, A_DEVICE_NAME))
    return text


def positive(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("{!r} is not a whole number of 1 or more".format(text))
    return int(text)


def control(text: str) -> Tuple[str, str]:
    """Return the name and the value in NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError("{!r} is not a control; NAME=VALUE was expected".format(text))
    return name.strip(), value.strip()


def core(text: str) -> int:
    """Return the number of a DLA core."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("{!r} is not a core number; 0 or 1 was expected".format(text))
    return int(text)


def size(text: str) -> Tuple[int, int]:
    """Return the width and the height in WIDTHxHEIGHT."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise argparse.ArgumentTypeError(
            "{!r} is not a size; WIDTHxHEIGHT was expected, each from 1 to 8192".format(text)
        )
    return int(width), int(height)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    if not 0 <= _number(text) <= 1:
        raise argparse.ArgumentTypeError("{!r} is not a number from 0 to 1".format(text))
    return float(text)


def distance(text: str) -> float:
    """Return a finite number."""
    if not abs(_number(text)) < float("inf"):
        raise argparse.ArgumentTypeError("{!r} is not a distance; a number was expected, such as 3.5".format(text))
    return float(text)


def seconds_or_zero(text: str) -> float:
    """Return a number of seconds, 0 or more."""
    if not 0 <= _number(text) < float("inf"):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds".format(text))
    return float(text)


def seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    if not seconds_or_zero(text):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds above 0".format(text))
    return float(text)


def pause(text: str) -> float:
    """Return a number of seconds, 0 or more, which may end with "s"."""
    number = text[:-1] if text.endswith("s") else text
    if not 0 <= _number(number) < float("inf"):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds, such as 1s".format(text))
    return float(number)


def event(text: str) -> str:
    """Return the text of an event's rule unchanged: a service's unit file has it."""
    from ..streaming.event_rules import parse_rule

    try:
        parse_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error))
    return text


def schedule(text: str) -> str:
    """Return the text of a schedule unchanged, as event() does."""
    from ..streaming.schedule import parse_schedule

    try:
        parse_schedule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error))
    return text


def region(text: str) -> Region:
    """Return the numbers in X,Y,WIDTH,HEIGHT: all integers, for pixels, or all floats, for fractions."""
    parts = text.split(",")
    kind = int if all(part.strip().isdecimal() for part in parts) else float
    try:
        x, y, width, height = (kind(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError("{!r} is not a region; X,Y,WIDTH,HEIGHT was expected".format(text))
    return x, y, width, height


# What argparse needs for a value, by its placeholder.
VALUES: Dict[str, Dict[str, Any]] = {
    "MB": {"metavar": "MB", "type": positive},
    "0-5": {"metavar": "0-5", "type": int, "choices": range(6)},
    "CORE": {"metavar": "CORE", "type": core},
    "FOLDER": {"metavar": "FOLDER"},
}
