"""The cameras of one run: ``--source NAME=URI`` for each, and ``--for NAME`` before the options that are one camera's own."""

import argparse
import re
from typing import TYPE_CHECKING, Dict, Iterable, List, Optional, Sequence, Tuple

from ...errors import OptionError

if TYPE_CHECKING:
    from typing import Any

FOR = "--for"
_WORD = "[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
NAME = "1 to 40 letters, digits, - and _"
DECISION = ("top_k", "threshold", "most_distance", "allow", "deny")
"""Options of the label, by their names in the arguments."""
OWN = frozenset(
    (
        *("password_file", "width", "height", "fps", "format", "control", "flip", "decode"),
        *("policy", "timeout", "frozen", "frames", "roi", "rotation", "mask"),
        *DECISION,
        *("smooth", "margin", "health", "baseline"),
        *("event", "schedule", "every", "when_motion"),
    )
)
"""Options that each camera may have to itself, by their names in the arguments."""
ANYWHERE = frozenset(("json", "quiet", "verbose", "log_level", "print_config"))
"""Options for all cameras that nobody takes for one camera's, wherever they stand."""


class SourceAction(argparse.Action):
    """Keeps every --source, in ``sources``; ``source`` is the first one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: "Any",
        option_string: Optional[str] = None,
    ) -> None:
        sources = namespace.__dict__.setdefault("sources", [])
        sources.append(values)
        namespace.source = sources[0]


def split_words(words: Iterable[str]) -> "Tuple[List[str], List[Tuple[str, List[str]]]]":
    """Return the words for all cameras, and the name and the words after each FOR."""
    common: List[str] = []
    own: List[Tuple[str, List[str]]] = []
    rest = iter(words)
    for word in rest:
        if word == FOR or word.startswith(FOR + "="):
            own.append((word[len(FOR) + 1 :] if "=" in word else next(rest, ""), []))
        else:
            (own[-1][1] if own else common).append(word)
    return common, own


def parse_own(parser: argparse.ArgumentParser, words: Sequence[str], name: str) -> argparse.Namespace:
    """Return the options that are given after FOR: one camera's and those of ANYWHERE; others are an error of the parser.

    parser      a parser of the options of run, which is changed
    """
    found, rest = parse_given(parser, words)
    others = [
        action.option_strings[0] for action in parser._actions if action.dest in set(vars(found)) - OWN - ANYWHERE
    ]
    for option in others + rest:
        parser.error("{} is not an option of one camera: give it before {} {}".format(option, FOR, name))
    return found


def parse_given(parser: argparse.ArgumentParser, words: Sequence[str]) -> "Tuple[argparse.Namespace, List[str]]":
    """Return the options that are given, without any defaults, and the words that are none.

    parser      a parser of the options of run, which is changed
    """
    for action in parser._actions:
        action.default, action.required = argparse.SUPPRESS, False
    found, rest = parser.parse_known_args(words)
    found.__dict__.pop("given", None)
    return found, rest


def cameras_of(arguments: argparse.Namespace) -> List[argparse.Namespace]:
    """Return the arguments of each camera; its name is ``camera``, "" for a single one without a name.

    Raises OptionError for a name that is given twice, or that no source has.
    """
    sources: Dict[str, str] = {}
    for number, text in enumerate(arguments.sources, 1):
        name, source = _named(text)
        _add(sources, name or ("" if len(arguments.sources) == 1 else "camera{}".format(number)), source)
    cameras = {name: _camera(arguments, name, source) for name, source in sources.items()}
    for name, found in arguments.own:
        if name not in cameras:
            raise OptionError(
                "{} {!r}: there is no such camera; the names are: {}".format(
                    FOR, name, ", ".join(filter(None, cameras)) or "none, name a source with --source NAME=URI"
                )
            )
        vars(cameras[name]).update(vars(found))
    return list(cameras.values())


def is_name(text: str) -> bool:
    """Return whether a text may be a camera's name."""
    return re.fullmatch(_WORD, text) is not None


def _named(text: str) -> Tuple[str, str]:
    """Return the name, or "", and the source in NAME=URI."""
    found = re.fullmatch("({})=(.+)".format(_WORD), text, re.DOTALL)
    return (found.group(1), found.group(2)) if found else ("", text)


def _add(sources: Dict[str, str], name: str, source: str) -> None:
    if name in sources:
        raise OptionError(
            "two cameras are called {!r}: give each a name of its own, as in --source NAME=URI".format(name)
        )
    sources[name] = source


def _camera(arguments: argparse.Namespace, name: str, source: str) -> argparse.Namespace:
    return argparse.Namespace(**dict(vars(arguments), camera=name, source=source))
