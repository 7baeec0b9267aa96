"""Maps exceptions to exit codes and messages on stderr."""

from __future__ import annotations

import atexit
import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from edgeclf_runtime.device.process_secrets import hide_arguments, take_environment
from edgeclf_runtime.errors import EdgeclfError, OptionError
from edgeclf_runtime.text.redaction import redact
from edgeclf_runtime.text.stdio import open_missing, silence
from edgeclf_runtime.text.terminal import printable, show_message

if TYPE_CHECKING:
    from typer._click import Command, Context

INTERRUPTED = 130
WRONG_USAGE = 2
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
# A command that a message names, with its own options.
_HOST_COMMAND = re.compile(r"\bedgeclf [a-z]+ [^;,()]*")
_PARSING = re.compile(r", unable to parse string as an? \w+")
# From click, which newer versions of typer bundle.
_UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """The group of all commands; turns exceptions into a message on stderr and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """See typer; also, a standard stream that is closed or full causes no traceback."""
        open_missing()
        _collect_less()
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            # The reader is gone, as with `| head`.
            silence(sys.stdout)
            sys.exit(0)
        except OSError as error:
            silence(sys.stdout)
            show_message(f"error: {error}")
            sys.exit(1)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """See typer; also, keeps anything that looks like a password out of all messages."""
        hide_arguments(args)
        take_environment()
        # Without arguments, the error is the help, whose lines stay.
        with _plain_usage_errors() if args else nullcontext():
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """See typer; also, refuses a repeated option that takes one value, since one of the values would be ignored."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            with command.context_class(command, info_name=name, parent=ctx) as context:
                _, _, given = command.make_parser(context).parse_args(list(rest))
                for option in given:
                    if given.count(option) > 1 and option.param_type_name == "option" and _takes_one_value(option):
                        context.fail(f"Option '{option.opts[0]}' is given more than once; one value was expected.")
        return name, command, rest

    def invoke(self, ctx: Context) -> object:
        """Run a command; exit code 0: done, 1: error, 2: wrong usage, 3: a gate was not met, 130: interrupted, 143: terminated."""
        from edgeclf_runtime.device.stop_signals import stoppable  # --help does not get here

        try:
            with stoppable(), _plain_usage_errors():
                return super().invoke(ctx)
        except EdgeclfError as error:
            show_message(f"error: {error}{_device_options(str(error), self, ctx.invoked_subcommand)}")
            # As typer ends for an option that it does not know, or a value that is not a number.
            raise typer.Exit(WRONG_USAGE if isinstance(error, OptionError) else error.exit_code) from None
        except KeyboardInterrupt as error:
            show_message("interrupted; nothing half-written was left behind")
            # Of a signal other than Ctrl-C, the code that a shell reports for it.
            raise typer.Exit(getattr(error, "exit_code", INTERRUPTED)) from None
        except BrokenPipeError:
            # The reader is gone, as with `| head`.
            _give_up_a_broken_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            # A full disk, a folder without permission: the system's message says what to fix.
            _give_up_a_broken_stdout()
            show_message(f"error: {error.filename or ctx.invoked_subcommand}: {error.strerror or error}")
            raise typer.Exit(1) from None


def _collect_less() -> None:
    """Let Python look for unreachable objects less often, and not as it ends: those of torch stay until the end.

    It saves a third of the processor time of importing torch, timm and lightning.
    """
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)


def _device_options(message: str, commands: TyperGroup, name: str | None) -> str:
    """Return a note to add to a runtime message that names options which the host command does not have."""
    named = set(_OPTION.findall(_HOST_COMMAND.sub("", message)))
    foreign = sorted(
        option for option in named & device_options() if not _has(commands.commands.get(name or ""), option)
    )
    if not foreign:
        return ""
    here = (
        "; here --model is --name" if "--model" in foreign and _has(commands.commands.get(name or ""), "--name") else ""
    )
    return f"\n({', '.join(foreign)}: options of the bundle's own commands, see python3 NAME.edge run --help{here})"


def _has(command: object, option: str) -> bool:
    return any(option in parameter.opts for parameter in getattr(command, "params", ()))


def device_options() -> set[str]:
    """Return the options of a bundle's own commands."""
    from edgeclf_runtime.commands.parser import make_parser

    parser: Any = make_parser()
    commands = parser._subparsers._group_actions[0].choices.values()
    return {option for command in commands for action in command._actions for option in action.option_strings}


def _takes_one_value(option: Any) -> bool:
    return not (option.multiple or option.is_flag or option.count)


@contextmanager
def _plain_usage_errors() -> Iterator[None]:
    """Reword typer's errors, and remove secrets and escape sequences: they quote the command line."""
    try:
        yield
    except _UsageError as error:
        error.message = printable(redact(_reworded(error.message, error.__cause__)))
        raise


def _reworded(message: str, cause: Any) -> str:
    """Return a message of pydantic's, which newer versions of typer use, with the value that was found."""
    if not hasattr(cause, "errors"):
        return message
    found = cause.errors()[0]["input"]
    message = _PARSING.sub("", message.removeprefix("Value error, "))
    return re.sub(r"^Input should be", lambda _: f"{found!r} is wrong; it should be", message)


def _give_up_a_broken_stdout() -> None:
    """Keep Python's flush at exit from printing an error and changing the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        silence(sys.stdout)
