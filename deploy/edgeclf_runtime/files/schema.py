"""Declares what a JSON file from outside may contain, and checks it when it is read.

A declaration is a function ``check(value, where)`` that raises SchemaError, one sentence that names the field, what
was found and what was expected.  ``record(...)``, ``list_of(...)`` and ``mapping(...)`` combine declarations;
``parse_json`` parses the bytes.
"""

import collections
import json
import math
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Pattern, Sequence, Tuple, Union

MAX_DEPTH = 32
_MAX_DIGITS = 19
# Control characters can command terminals and forge log lines; the others reverse or hide the text around them.
_OTHERS = r"\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb]"
_UNPRINTABLE = re.compile(r"[\x00-\x1f" + _OTHERS)
_UNPRINTABLE_BUT_LINES = re.compile(r"[\x00-\x08\x0b-\x1f" + _OTHERS)
_MAX_SHOWN = 60

# An object of JSON; what its values are, its declaration says.
JsonObject = Dict[str, Any]
Check = Callable[[object, str], None]
Bound = Optional[Union[int, float]]


class SchemaError(ValueError):
    """A value does not match its declaration."""


def parse_json(data: bytes) -> Any:
    """Parse JSON bytes; raises SchemaError for anything but plain, finite, printable JSON in UTF-8.

    Also refused: duplicate keys (readers differ in which one counts), NaN and infinities, integers of more than 19
    digits, nesting deeper than MAX_DEPTH, and control characters (in a declared ``text`` also line breaks and tabs).
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_bounded_int,
        )
    except SchemaError:
        raise
    except (ValueError, RecursionError) as error:
        raise SchemaError("it is not JSON ({})".format(str(error)[:100] or "it is nested too deeply"))
    _check_plain(value)
    return value


def _unique(pairs: List[Tuple[str, object]]) -> Dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SchemaError("the key {} occurs twice; once was expected".format(_shown(_twice(key for key, _ in pairs))))
    return found


def _twice(items: Iterable[object]) -> object:
    counts = collections.Counter(items)
    return next(item for item, count in counts.items() if count > 1)


def _no_constant(name: str) -> None:
    raise SchemaError("it holds {}; a finite number was expected".format(name))


def _bounded_int(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise SchemaError(
            "it holds a whole number of {} digits; at most {} were expected".format(len(digits), _MAX_DIGITS)
        )
    return int(digits)


def _check_plain(value: object) -> None:
    waiting = [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            check_printable(value, "a text", _UNPRINTABLE_BUT_LINES)
        elif isinstance(value, float) and not math.isfinite(value):
            raise SchemaError("it holds a number too large for a float; a finite number was expected")
        elif isinstance(value, (dict, list)):
            if depth == MAX_DEPTH:
                raise SchemaError("it is nested deeper than {} levels".format(MAX_DEPTH))
            if isinstance(value, dict):
                for key in value:
                    check_printable(key, "a key")
                value = value.values()
            waiting.extend((item, depth + 1) for item in value if not isinstance(item, (int, type(None))))


def check_printable(value: str, where: str, unprintable: "Pattern[str]" = _UNPRINTABLE) -> None:
    """Raise SchemaError if a text has control characters, or characters that reorder others."""
    found = unprintable.search(value)
    if found:
        raise SchemaError(
            "{} holds the control character U+{:04X}: {}".format(where, ord(found.group()), _shown(value))
        )


def any_json(value: object, where: str) -> None:
    """Accept anything that parse_json accepts."""


def text(pattern: Optional[str] = None, expected: str = "a text of 1 to 1000 characters", most: int = 1000) -> Check:
    """Declare a text of at most ``most`` characters that matches ``pattern``; ``expected`` describes it in messages."""
    compiled = re.compile(pattern or ".+", re.DOTALL)

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or len(value) > most or not compiled.fullmatch(value):
            raise _wrong(where, value, expected)
        check_printable(value, where)

    return check


def constant(*allowed: object) -> Check:
    """Declare one of a few values."""

    def check(value: object, where: str) -> None:
        if not any(value == one and type(value) is type(one) for one in allowed):
            raise _wrong(where, value, " or ".join(_shown(one) for one in allowed))

    return check


def number(low: Bound = None, high: Bound = None, above: Bound = None) -> Check:
    """Declare a finite number within inclusive bounds; ``above`` is an exclusive lower bound."""

    def check(value: object, where: str) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
            or (low is not None and value < low)
            or (high is not None and value > high)
            or (above is not None and value <= above)
        ):
            raise _wrong(where, value, "a number" + _bounds(low, high, above))

    return check


def integer(low: Optional[int] = None, high: Optional[int] = None) -> Check:
    """Declare an integer within inclusive bounds."""

    def check(value: object, where: str) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or (low is not None and value < low)
            or (high is not None and value > high)
        ):
            raise _wrong(where, value, "a whole number" + _bounds(low, high, None))

    return check


def flag(value: object, where: str) -> None:
    """Declare true or false."""
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")


def nullable(check_value: Check) -> Check:
    """Declare null, or a value that matches another declaration."""

    def check(value: object, where: str) -> None:
        if value is not None:
            check_value(value, where)

    return check


def list_of(item: Check, least: int = 0, most: int = 1000000, unique: bool = False) -> Check:
    """Declare a list of ``least`` to ``most`` items."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list) or not least <= len(value) <= most:
            found = value if not isinstance(value, list) else "a list of {}".format(len(value))
            size = "of {}".format(least) if least == most else "of {} to {}".format(least, most)
            raise _wrong(where, found, "a list " + size)
        for index, one in enumerate(value):
            item(one, "{}[{}]".format(where, index))
        if unique and len(set(value)) != len(value):
            raise SchemaError("{} names {} twice".format(where, _shown(_twice(value))))

    return check


def mapping(key: Check, item: Check, most: int = 100000) -> Check:
    """Declare an object with arbitrary keys."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict) or len(value) > most:
            raise _wrong(where, value, "an object of at most {} entries".format(most))
        for name, one in value.items():
            key(name, "a key in {}".format(where))
            item(one, _joined(where, name))

    return check


def record(fields: Dict[str, Check], optional: Sequence[str] = (), others: bool = False) -> Check:
    """Declare an object with these fields.

    fields      declarations by name
    optional    names that may be missing
    others      whether any other fields are accepted
    """

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object with {}".format(", ".join(sorted(fields))))
        missing = sorted(set(fields) - set(value) - set(optional))
        if missing:
            raise SchemaError("{}the field {} is missing".format(where and where + ": ", _shown(missing[0])))
        extra = sorted(set(value) - set(fields))
        if extra and not others:
            raise SchemaError("{}the field {} is not known".format(where and where + ": ", _shown(extra[0])))
        for name, check_field in fields.items():
            if name in value:
                check_field(value[name], _joined(where, name))

    return check


def _bounds(low: Bound, high: Bound, above: Bound) -> str:
    if above is not None:
        return " above {}".format(above) + ("" if high is None else " and at most {}".format(high))
    if low is not None and high is not None:
        return " from {} to {}".format(low, high)
    if low is not None:
        return " of at least {}".format(low)
    return "" if high is None else " of at most {}".format(high)


def _wrong(where: str, found: object, expected: str) -> SchemaError:
    return SchemaError("{} is {}; {} was expected".format(where or "it", _shown(found), expected))


def _joined(where: str, key: str) -> str:
    key = key if len(key) <= _MAX_SHOWN else key[:_MAX_SHOWN] + "..."
    return "{}.{}".format(where, key) if where else key


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    shown = ascii(value)
    return shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + "..."
