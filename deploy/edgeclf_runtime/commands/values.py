"""Values of the command line's options, from text; argparse.ArgumentTypeError says what was expected."""

import argparse

from ..results import A_DEVICE_NAME, is_device_name


def device_name(text):
    """Return a device's name."""
    if not is_device_name(text):
        raise argparse.ArgumentTypeError("{!a} is no name of a device; {} was expected".format(text, A_DEVICE_NAME))
    return text


def positive(text):
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("{!r} is not a whole number of 1 or more".format(text))
    return int(text)


def control(text):
    """Return the name and the value of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError("{!r} sets no control; NAME=VALUE was expected".format(text))
    return name.strip(), value.strip()


def core(text):
    """Return the number of a core of the DLA."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("{!r} is no number of a core; 0 or 1 was expected".format(text))
    return int(text)


def size(text):
    """Return WIDTHxHEIGHT as two numbers."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise argparse.ArgumentTypeError("{!r} is no size; WIDTHxHEIGHT, each 1 to 8192, was expected".format(text))
    return int(width), int(height)


def _number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")


def share(text):
    """Return a number from 0 to 1."""
    if not 0 <= _number(text) <= 1:
        raise argparse.ArgumentTypeError("{!r} is not a number from 0 to 1".format(text))
    return float(text)


def seconds_or_zero(text):
    """Return a number of seconds, 0 or more."""
    if not 0 <= _number(text) < float("inf"):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds".format(text))
    return float(text)


def seconds(text):
    """Return a number of seconds above 0."""
    if not seconds_or_zero(text):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds above 0".format(text))
    return float(text)


def region(text):
    """Return X,Y,WIDTH,HEIGHT as four numbers, all of pixels or all shares."""
    parts = text.split(",")
    kind = int if all(part.strip().isdecimal() for part in parts) else float
    try:
        x, y, width, height = (kind(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError("{!r} is no region; X,Y,WIDTH,HEIGHT was expected".format(text))
    return x, y, width, height
