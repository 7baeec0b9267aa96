"""The device's command line: its commands, options and examples."""

import argparse
import functools
import os
import shlex
import sys

from .. import __version__
from ..text.redaction import redact
from ..text.stdio import write_stderr
from ..text.terminal import printable

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import Any, Iterable, List, NoReturn, Optional, Sequence

# Name, summary and example of each command, in the order of the help.
_COMMANDS = (
    ("info", "verify the bundle and show what it holds", "info"),
    ("selftest", "check each model's logits on the golden images", "selftest"),
    ("build", "build the TensorRT engines for this GPU, and find the fastest model", "build"),
    ("classify", "classify image files", "classify cat.jpg dog.png --json"),
    ("run", "classify frames until the source ends", "run --source /dev/video0 --live 8080 --json"),
    ("bench", "measure the latency of each model", "bench --repeat 200"),
    (
        "install-service",
        "install run as a systemd service, with the options of run",
        "install-service --name pets --source csi://0 --sink mqtt://broker/pets",
    ),
    ("uninstall-service", "stop a systemd service and remove its unit file", "uninstall-service --name pets"),
    ("doctor", "find what is missing on this machine, and how to fix it", "doctor"),
    ("report", "measure what this machine can do, and write one file to send on", "report --output board.json"),
)


class _Once(argparse.Action):
    """Stores an option's value, and refuses a second one instead of ignoring the first."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: "Optional[str]" = None,
    ) -> None:
        given = namespace.__dict__.setdefault("given", set())
        if self.option_strings and self.dest in given:
            raise argparse.ArgumentError(self, "it is given more than once; one value was expected")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Help(argparse.HelpFormatter):
    """Help as wide as the terminal; to find its width, argparse would import shutil, which is slow."""

    def __init__(self, prog: str, **options: "Any") -> None:
        super().__init__(prog, **dict(options, width=_terminal_width() - 2))


def _terminal_width() -> int:
    """Return the number of columns, as shutil.get_terminal_size() does."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size().columns or 80
    except OSError:
        return 80


class _Parser(argparse.ArgumentParser):
    """A parser whose messages contain no secrets and no terminal control codes."""

    color = False  # Python 3.14's codes would be escaped

    def __init__(self, *arguments: "Any", **options: "Any") -> None:
        super().__init__(*arguments, **dict(options, formatter_class=_Help))
        for action in (None, "store"):  # the default action of an argument with one value
            self.register("action", action, _Once)

    def error(self, message: str) -> "NoReturn":
        super().error(printable(message))

    def _print_message(self, message: str, file: "Any" = None) -> None:
        text = printable(redact(message or ""), "\n")
        if file in (None, sys.stderr):
            write_stderr(text)
        else:
            file.write(text)
            file.flush()  # here a full disk is an error


class _RunParser(_Parser):
    """A parser of run's options, some of which may be one camera's own.

    ``own`` of its arguments has these, with the camera's name.  ``again`` is the Again of their configuration file, or None.
    """

    def parse_known_args(self, args: "Any" = None, namespace: "Any" = None) -> "Any":
        from .run.cameras import ANYWHERE, parse_own, split_words

        again = None
        if any(word.partition("=")[0] == "--config" for word in args):
            from .run.config_file import Again, take_config, with_config

            path, beside = take_config(self, args)
            again = Again(path, beside, functools.partial(self.parse_known_args, list(args)))
            args = with_config(self, path, beside)
        common, own = split_words(args)
        found, rest = super().parse_known_args(common, namespace)
        if found.config is not None:  # argparse takes an abbreviation of the option, which is read before
            self.error("argument --config: it was shortened; write it in full")
        found.own, found.again = [], again
        for name, words in own:
            parsed = vars(parse_own(self._inner(), words, name))
            for dest in ANYWHERE.intersection(parsed):
                setattr(found, dest, parsed.pop(dest))
            found.own.append((name, argparse.Namespace(**parsed)))
        return found, rest

    def _inner(self) -> argparse.ArgumentParser:
        """Return a parser of run's options, whose errors are this one's."""
        inner: Any = run_parser()
        inner.error = self.error
        return inner


def names_apart(argv: "Iterable[str]") -> "List[str]":
    """Return a command line in which files whose names begin with "-" cannot be taken for options."""
    apart = list(argv)
    for at, word in enumerate(apart):
        if word.startswith("-") and os.path.lexists(word):
            from ..images.read import is_image_name  # would cost every start some milliseconds

            if is_image_name(word) or apart[at - 1 : at] == ["--source"]:
                apart[at] = os.path.join(os.curdir, word)
    return apart


def make_parser(bundle: "Optional[str]" = None, argv: "Optional[Sequence[str]]" = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; ``arguments.name`` is the command.

    bundle      the bundle that the command line was started from; None: it is an argument
    argv        the words to parse; only the commands among them get their options.  None: all commands do
    """
    program = "python3 {}".format(shlex.quote(os.path.basename(bundle))) if bundle else "python3 -m edgeclf_runtime"
    parser: Any = _Parser(
        prog=program,
        description="Classify images and camera frames with a bundle that edgeclf made.",
        epilog="example: {} run --source /dev/video0 --json".format(program),
    )
    parser.add_argument("--version", action="version", version=__version__)

    def command_parser(command: str, **options: "Any") -> argparse.ArgumentParser:
        if argv is not None and command not in argv:
            return parser  # not used as the command's: the help lists its name and summary
        from .command_options import add_options

        made = (_RunParser if command in ("run", "install-service") else _Parser)(**options)
        add_options(made, command, bundle is None)
        return made

    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="name", parser_class=command_parser)
    commands.required = True
    for name, summary, example in _COMMANDS:
        epilog = "example: {} {}".format(program, example)
        commands.add_parser(name, help=summary, description=summary, epilog=epilog, command=name)
    return parser


def run_parser() -> argparse.ArgumentParser:
    """Return a parser with only the options of ``run``."""
    from .command_options import add_options

    parser = _Parser(add_help=False)
    add_options(parser, "run", False)
    return parser
