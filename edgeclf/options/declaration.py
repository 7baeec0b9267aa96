"""Declares the options of a dataclass: fields that are also options on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field, fields, replace
from numbers import Integral, Real
from typing import TypeVar, get_args, get_origin, get_type_hints

from ..errors import OptionError

T = TypeVar("T")
SKIP_UNREADABLE = "Leave out images that cannot be decoded, instead of stopping."
"""Help of every option skip-unreadable."""
DOWNLOAD = "Download what is not on this machine: ImageNet weights, from the Hugging Face hub, and a named data set."
"""Help of every option download."""
IMAGE_SIZE = "Side of the model's square input, in pixels."
"""Help of every option image-size."""
DOWNLOAD_DATA = "Download a named data set that is not on this machine."
"""Help of every option download that is only for data."""
MOVED = "The run's images, if they are not where they were; they are recognized by their content."
"""Help of every option data that finds a run's images."""
SEED = "The same seed, data and versions give the same result."
"""Help of every option seed."""
SEEDS = (0, 2**31)
"""Range of every option seed."""
ENGINES = ("local", "ray")
"""Engines that compute many images."""
ENGINE = "Where images are computed: on this machine, or in tasks of Ray, here or on the cluster in RAY_ADDRESS."
"""Help of the option engine of commands that keep what they compute."""
INPUT_SIZES = (32, 1024)
"""Range of the side of an input that is trained."""


def option(
    default: T,
    help: str,
    *,
    name: str = "",
    shown: str = "",
    metavar: str = "",
    path: bool = False,
    between: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    parser: Callable[[str], object] | None = None,
    repeated: bool = False,
) -> T:
    """Declare a field of a dataclass that is also an option on the command line.

    name: on the command line, if it is not the field's.  shown: the default in words, if its
    value says too little.  metavar: placeholder of the value in the help.  path: the value names
    a file or folder, and a leading ~ is the home folder.  between: the smallest and the largest
    value, math.inf for no largest.  choices: the values that exist.  The help shows both, and
    check_fields() refuses others.  parser: makes the value of the command line's text.  repeated: the command line takes it
    several times, as texts; a field that is a tuple always is.
    """
    facts = {"help": help, "name": name, "shown": shown, "metavar": metavar, "path": path}
    others = {"between": between, "choices": choices, "parser": parser, "repeated": repeated}
    return field(default=default, metadata={**facts, **others})


def merged(kind: type[T], options: T | None, given: Mapping[str, object]) -> T:
    """Return options with single ones given as keywords, as in edgeclf.train(data, run, epochs=3).

    kind: the options class.  Raises OptionError for an option that it does not have, for a value that is not a number, a truth
    value or names where its field has one, and for options of another type.
    """
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"help(edgeclf.{kind.__name__}) lists them"
            raise OptionError(f"there is no option {name!r}; {hint}")
    if options is not None and not isinstance(options, kind):
        raise OptionError(
            f'options is {options!r}; {kind.__name__} was expected, or options by name: split="val", epochs=3'
        )
    hints = get_type_hints(kind)
    typed = {name: _typed(name, value, hints[name]) for name, value in given.items()}
    return replace(options or kind(), **typed)  # type: ignore[type-var]


def _typed(name: str, value: object, hint: object) -> object:
    """Return a value as its field has it: a number of numpy's as Python's, one name or a list of names as a tuple.

    Only fields of numbers, truth values and names are checked: in Python, a text may also be a path, or a number.
    """
    args = get_args(hint) if get_origin(hint) is not tuple else ()
    kinds = [one for one in args or (hint,) if one is not type(None)]
    if len(kinds) != 1 or (value is None and type(None) in args):
        return value
    number = isinstance(value, Real) and not isinstance(value, bool)
    if kinds[0] is bool and not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    if kinds[0] is int:
        if not (number and isinstance(value, Integral)):
            raise _wrong(name, value, "a whole number")
        return int(value)
    if kinds[0] is float:
        if not number:
            raise _wrong(name, value, "a number")
        return value if isinstance(value, int) else float(value)  # type: ignore[arg-type]
    if get_origin(kinds[0]) is tuple:
        names = (value,) if isinstance(value, str) else value
        if not isinstance(names, (tuple, list, set, frozenset)) or not all(isinstance(one, str) for one in names):
            raise _wrong(name, value, "a list of names")
        return tuple(names)
    return value


def _wrong(name: str, value: object, expected: str) -> OptionError:
    return OptionError(f"{name.replace('_', '-')} is {value!r}; {expected} was expected")


def check_known(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise OptionError for values of an option that may be repeated which do not exist; what: names one of them."""
    known = tuple(known)
    if isinstance(given, str):
        raise OptionError(f"{what} is {given!r}; a list was expected: [{given!r}]")
    if unknown := sorted(set(given) - set(known)):
        raise OptionError(f"there is no {what} {', '.join(unknown)}; choose from {', '.join(known)}")


def check_fields(options: object) -> None:
    """Raise OptionError for an option that is none of its choices or out of its range; None is always allowed."""
    for one in fields(options):  # type: ignore[arg-type]
        value = getattr(options, one.name)
        if one.metadata and value is not None:
            _check_choice(one, value)
            _check_range(one, value)


def _check_choice(one: Field[object], value: object) -> None:
    choices = one.metadata["choices"]
    if isinstance(one.default, tuple):
        if choices:
            check_known((one.metadata["name"] or one.name).lstrip("-"), value, choices)  # type: ignore[arg-type]
    elif choices and value not in choices:
        raise OptionError(f"{one.name.replace('_', '-')} is {value!r}; {', '.join(choices)} was expected")


def _check_range(one: Field[object], value: object) -> None:
    if one.metadata["between"] is None:
        return
    low, high = one.metadata["between"]
    if not isinstance(value, Real) or not low <= float(value) <= high:
        shown = repr(value) if isinstance(value, str) else value
        expected = f"{low} or more" if high == math.inf else f"{low} to {high}"
        raise OptionError(f"{one.name.replace('_', '-')} is {shown}; {expected} was expected")
