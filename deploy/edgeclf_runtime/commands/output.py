"""What a command prints on stdout: text for people, or JSON."""

import json
import sys

from ..text.terminal import encodable, printable, printable_json


def write_report(arguments, report):
    """Print a report: as JSON if that was asked for, else as text."""
    if arguments.json:
        print_json(json.dumps(report.to_dict()))
    else:
        print_text(report, newline="\n")


def print_text(text, newline="\\n"):
    """Print one line, or with "\n" several, to a stdout of any encoding."""
    print(encodable(printable(text, newline), sys.stdout), flush=True)


def print_json(text):
    """Print one line of JSON."""
    print(printable_json(text), flush=True)
