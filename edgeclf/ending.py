"""How a command ends: its exit code, and its last words on stderr."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from edgeclf_runtime.errors import EdgeclfError

INTERRUPTED = 130


class Commands(TyperGroup):
    """Turns what stops a command into a message on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 0 done, 1 error, 3 a gate was not met, 130 interrupted (2 is typer's, for usage)."""
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except EdgeclfError as error:
            print(f"error: {error}", file=sys.stderr)
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
            print(f"error: {error.filename or ctx.invoked_subcommand}: {error.strerror or error}", file=sys.stderr)
            raise typer.Exit(1) from None


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _give_up_a_broken_stdout() -> None:
    """Keep Python, which flushes once more when it ends, from complaining and changing the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
