"""A configuration file of ``run``: its options as JSON or TOML, with those of each camera under ``cameras``.

Each key is the name of an option without its dashes, so the options' own parser checks the values.
"""

import argparse
import difflib
import importlib
import sys
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, NamedTuple, Tuple

from ...errors import OptionError
from ...files.read import read_bytes
from ...files.schema import SchemaError, parse_json
from .cameras import FOR, NAME, OWN, is_name

if TYPE_CHECKING:
    from ...files.schema import JsonObject

CONFIG = "--config"
CAMERAS = "cameras"
MOST_BYTES = 1 << 20
_NOT_KEYS = ("help", "config", "print_config", "for_camera")
_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object"}


class Again(NamedTuple):
    """The configuration file of a command line.

    path        as it is given there
    beside      the other words there
    parse       reads it again: returns the arguments, and words that are not options
    """

    path: str
    beside: List[str]
    parse: Callable[[], Tuple[argparse.Namespace, List[str]]]


def with_config(parser: argparse.ArgumentParser, path: str, rest: List[str]) -> List[str]:
    """Return a command line with the words of a file before the other words.

    parser      the parser of the command, of whose options those on the command line replace those of the file
    path, rest  as take_config() returns them

    Raises OptionError, with the key's path, for a file that cannot be read, an unknown key or a wrong value.
    """
    own_from = next((at for at, word in enumerate(rest) if word.partition("=")[0] == FOR), len(rest))
    given = {action.dest for action in map(_finder(parser), rest[:own_from]) if action}
    facts = read_config(path)
    try:
        common, own = words_of(parser, facts, given)
        return [*common, *rest[:own_from], *own, *rest[own_from:]]
    except SchemaError as error:
        raise OptionError("{}: {}".format(path, error))


def read_config(path: str) -> "JsonObject":
    """Return the object in a file of JSON, or of TOML if its name says so; OptionError if there is none."""
    try:
        data = read_bytes(path, MOST_BYTES)
        facts = _parse_toml(data) if path.lower().endswith(".toml") else parse_json(data)
    except (OSError, ValueError) as error:
        raise OptionError("{} {} cannot be used ({})".format(CONFIG, path, getattr(error, "strerror", None) or error))
    if not isinstance(facts, dict):
        raise OptionError("{} {} holds {}; an object was expected".format(CONFIG, path, _kind(facts)))
    return facts


def _parse_toml(data: bytes) -> Any:
    try:
        tomllib: Any = importlib.import_module("tomllib")
    except ImportError:
        raise ValueError(
            "TOML needs Python 3.11, and this is {}.{}: write the same as JSON".format(*sys.version_info[:2])
        )
    return tomllib.loads(data.decode("utf-8"))


def take_config(parser: argparse.ArgumentParser, words: Iterable[str]) -> "Tuple[str, List[str]]":
    """Return the path after CONFIG, and the other words of a command line."""
    path: Any = None
    rest: List[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name != CONFIG:
            rest.append(word)
        elif path is not None:
            parser.error("argument {}: it is given more than once; one value was expected".format(CONFIG))
        else:
            path = value if equals else next(left, "")
    return path, rest


def _finder(parser: argparse.ArgumentParser) -> Any:
    """Return a function that gives the option of a word, which may be abbreviated, or None."""
    names = {name: action for action in parser._actions for name in action.option_strings}

    def find(word: str) -> Any:
        start = word.partition("=")[0]
        found = [names[start]] if start in names else [names[name] for name in names if name.startswith(start)]
        return found[0] if start.startswith("--") and len(found) == 1 else None

    return find


def words_of(
    parser: argparse.ArgumentParser, facts: "JsonObject", given: "Iterable[str]" = ()
) -> Tuple[List[str], List[str]]:
    """Return the words for the options of a file: those for all cameras, and each camera's own.

    Raises SchemaError, with the key's path, for what is wrong.

    given       names of options that are on the command line, and replace those of the file
    """
    actions = _options(parser)
    cameras = facts.get(CAMERAS, {})
    _expect(cameras, dict, CAMERAS)
    if "source" in facts and cameras:
        raise SchemaError("source is given beside {0}; give it for each of the {0}".format(CAMERAS))
    words: List[str] = []
    for key, value in facts.items():
        if key != CAMERAS:
            action = _option(actions, key, key)
            words += [] if action.dest in given else _words(action, value, key)
    own: List[str] = []
    for name, options in [] if "source" in given else cameras.items():
        where = "{}.{}".format(CAMERAS, name)
        _expect(options, dict, where)
        if not is_name(name):
            raise SchemaError("{}: {!r} is not a name; {} was expected".format(CAMERAS, name, NAME))
        if "source" not in options:
            raise SchemaError("{}.source is missing".format(where))
        _expect(options["source"], str, where + ".source")
        words += ["--source", "{}={}".format(name, options["source"])]
        inner: List[str] = []
        for key, value in options.items():
            place = "{}.{}".format(where, key)
            if key == "source":
                continue
            action = _option(actions, key, place)
            if action.dest not in OWN:
                raise SchemaError("{} is for all cameras: give it beside {}".format(place, CAMERAS))
            inner += [] if action.dest in given else _words(action, value, place)
        own += [FOR, name, *inner] if inner else []
    return words, own


def _options(parser: argparse.ArgumentParser) -> Dict[str, argparse.Action]:
    """Return the options that a file may have, by their keys."""
    return {
        name[2:]: action
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and action.dest not in _NOT_KEYS
    }


def _option(actions: Dict[str, argparse.Action], key: str, where: str) -> argparse.Action:
    if key not in actions:
        near = difflib.get_close_matches(key, [*actions, CAMERAS], 1)
        hint = "did you mean {}?".format(near[0]) if near else "keys are the options of run, without dashes"
        raise SchemaError("there is no {}; {}".format(where, hint))
    return actions[key]


def _words(action: argparse.Action, value: object, where: str) -> List[str]:
    """Return the words of one option."""
    option = "--" + where.rpartition(".")[2]
    if action.nargs == 0:
        _expect(value, bool, where)
        return [option] if value else []
    several = isinstance(action.default, list) or type(action).__name__ == "_AppendAction"
    texts = _texts(value, where, several and action.dest != "roi")
    if several and action.dest == "control" and isinstance(value, dict):
        texts = ["{}={}".format(name, _text(one, where)) for name, one in value.items()]
    for text in texts:
        _check(action, text, where)
    return ["{}={}".format(option, text) for text in texts]


def _texts(value: object, where: str, several: bool) -> List[str]:
    """Return the texts of an option's values."""
    if isinstance(value, list) and not several:  # a region
        return [",".join(_text(one, where) for one in value)]
    if isinstance(value, dict):
        # An event's rule by label: {"cat": {"hold": 0.5}}.
        return [
            "{}: {}".format(label, ", ".join("{}={}".format(*item) for item in rule.items()))
            for label, rule in value.items()
            if isinstance(rule, dict)
        ]
    return [_text(one, where) for one in (value if isinstance(value, list) else [value])]


def _text(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise SchemaError("{} is {}; a text or a number was expected".format(where, _kind(value)))
    return str(value)


def _check(action: argparse.Action, text: str, where: str) -> None:
    try:
        value = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError) as error:
        raise SchemaError("{}: {}".format(where, error))
    if action.choices is not None and value not in action.choices:
        raise SchemaError("{} is {!r}; {} was expected".format(where, text, ", ".join(map(str, action.choices))))


def _expect(value: object, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise SchemaError("{} is {}; {} was expected".format(where, _kind(value), _KINDS[kind]))


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), type(value).__name__)


def config_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> "JsonObject":
    """Return the object of a file that means the same as a command line: with_config() reads it back."""
    facts = _facts(parser, vars(arguments))
    cameras: "Dict[str, JsonObject]" = {}
    from .cameras import cameras_of

    for one in cameras_of(arguments):
        if one.camera:
            cameras[one.camera] = {"source": one.source}
    for name, found in arguments.own:
        cameras[name].update(_facts(parser, vars(found)))
    if cameras:
        facts.pop("source", None)
        facts[CAMERAS] = cameras
    return facts


def _facts(parser: argparse.ArgumentParser, values: "Dict[str, Any]") -> "JsonObject":
    facts: "JsonObject" = {}
    for key, action in _options(parser).items():
        value = values.get(action.dest, action.default)
        if value == action.default or (action.nargs == 0 and value != action.const):
            continue
        if isinstance(value, list):
            value = ["=".join(one) if isinstance(one, tuple) else one for one in value]
        # The key of a flag such as no-wait is its name, and true that it is given.
        facts[key] = True if action.nargs == 0 else list(value) if isinstance(value, tuple) else value
    return facts
