"""The options of ``run`` as words of a command line, from what was parsed: the reverse of ``commands/parser.py``."""

from typing import Any, List

from ..parser import run_parser


def run_words(values):
    """Return the words that ``run`` takes for these values, by name as in what it parses; those of other names do not count.

    A value that is not text, a number or a region stays unchanged.
    """
    words: List[Any] = []
    for action in run_parser()._actions:
        value = values[action.dest]
        for item in [] if value == action.default else value if isinstance(value, list) else [value]:
            if action.nargs != 0:
                words += _option(action.option_strings[0], item)
            elif item == action.const:
                words.append(action.option_strings[0])
    return words


def _option(name, value):
    if isinstance(value, (str, float, int)):
        # What begins with a dash would be taken for an option.
        return ["{}={}".format(name, value)] if str(value).startswith("-") else [name, str(value)]
    if type(value) is tuple:
        value = "=".join(value) if isinstance(value[0], str) else ",".join(map(str, value))
    return [name, value]
