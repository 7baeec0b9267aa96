"""Turns parsed options of ``run`` back into the words of a command line: the reverse of ``commands/parser.py``."""

from typing import List, Mapping

from ..parser import run_parser


def run_words(values: Mapping[str, object]) -> List[object]:
    """Return the words for these values of ``run``'s options, by the names of the parsed arguments, some of them or all; ignores
    other names.

    A value that is not text, a number or a region is returned unchanged.
    """
    words: List[object] = []
    for action in run_parser()._actions:
        if action.dest not in values:
            continue
        value = values[action.dest]
        for item in [] if value == action.default else value if isinstance(value, list) else [value]:
            if action.nargs != 0:
                words += _option(action.option_strings[0], item)
            elif item == action.const:
                words.append(action.option_strings[0])
    return words


def _option(name: str, value: object) -> List[object]:
    if isinstance(value, (str, float, int)):
        # A value that begins with a dash would be taken for an option.
        return ["{}={}".format(name, value)] if str(value).startswith("-") else [name, str(value)]
    if type(value) is tuple:
        value = "=".join(value) if isinstance(value[0], str) else ",".join(map(str, value))
    return [name, value]
