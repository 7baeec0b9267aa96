"""Prints a command's output on stdout: text for people, or JSON."""

import json
import sys
import threading
from typing import TYPE_CHECKING

from ..text.terminal import encodable, printable, printable_json

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Dict, Protocol

    class Report(Protocol):
        """The result of a command; ``str()`` is its text for people."""

        def to_dict(self) -> Dict[str, object]: ...


_WRITING = threading.Lock()  # print() writes a line and its end one after the other, and cameras have threads


def write_report(arguments: "Namespace", report: "Report") -> None:
    """Print a report: with --json as JSON, otherwise as text."""
    if arguments.json:
        print_json(json.dumps(report.to_dict()))
    else:
        print_text(report, newline="\n")


def print_text(text: object, newline: str = "\\n") -> None:
    """Print text to a stdout of any encoding, with ``newline`` in place of each newline in it."""
    line = encodable(printable(text, newline), sys.stdout)
    with _WRITING:
        print(line, flush=True)


def print_json(text: str) -> None:
    """Print one line of JSON."""
    line = printable_json(text)
    with _WRITING:
        print(line, flush=True)
