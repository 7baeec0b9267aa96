"""How a command ends: its exit code, and its last words on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from edgeclf_runtime.credentials import hide_arguments, take_environment
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.redaction import redact
from edgeclf_runtime.stopping import stoppable
from edgeclf_runtime.terminal import printable, show_message

INTERRUPTED = 130
# click's, which newer versions of typer carry inside themselves.
_UsageError: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """Turns what stops a command into a message on stderr and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See typer; what looks like a password is kept out of every message first."""
        hide_arguments(args)
        take_environment()
        with _printable_usage_errors():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 0 done, 1 error, 3 a gate was not met, 130 interrupted (2 is typer's, for usage)."""
        try:
            with stoppable(), _printable_usage_errors():
                return super().invoke(ctx)
        except EdgeclfError as error:
            show_message(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("interrupted; nothing half-written was left behind", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader has gone, say `| head`.
            _give_up_a_broken_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            # A full disk, a folder that may not be read: the machine's own words say what to mend.
            _give_up_a_broken_stdout()
            show_message(f"error: {error.filename or ctx.invoked_subcommand}: {error.strerror or error}")
            raise typer.Exit(1) from None


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Have typer print its errors, which quote what was typed, without secrets and escape sequences."""
    try:
        yield
    except _UsageError as error:
        error.message = printable(redact(error.message))
        raise


def _give_up_a_broken_stdout() -> None:
    """Keep Python, which flushes once more when it ends, from complaining and changing the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
