"""The device's commands: ``python3 NAME.edge COMMAND``, or ``python3 -m edgeclf_runtime COMMAND NAME.edge``.

Results go to stdout, as text or, with --json, as JSON; everything else goes to stderr.
"""

import os
import sys

if __name__ == "__main__" and sys.path[:1] in ([""], [os.getcwd()]):
    # ``python -m`` searches the working folder first, where a folder json/ would replace Python's own module; Python 3.6
    # calls that folder "".
    del sys.path[0]

from .commands.parser import make_parser, names_apart
from .device.process_secrets import hide_arguments, take_environment
from .errors import EdgeclfError
from .text.stdio import open_missing, silence
from .text.terminal import show_exception, show_message

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import NoReturn, Optional, Sequence

WRONG_USAGE = 2
INTERRUPTED = 130
_INSTALL = (
    "numpy and OpenCV are needed: on Debian and Ubuntu, sudo apt-get install python3-numpy python3-opencv; on a Jetson "
    "libopencv-python instead of python3-opencv; elsewhere, {} -m pip install numpy opencv-python-headless"
)


def program(bundle: "Optional[str]" = None) -> "NoReturn":
    """Run the command line of ``sys.argv`` and end with its exit code; see main()."""
    code = main(bundle=bundle)
    from .device.stop_signals import leave

    leave(code)


def main(argv: "Optional[Sequence[str]]" = None, bundle: "Optional[str]" = None) -> int:
    """Run a command and return its exit code: 0 done, 1 error, 2 usage, 3 a gate was not met.

    bundle      the bundle that the command line was started from; None: it is an argument
    """
    open_missing()
    argv = sys.argv[1:] if argv is None else argv
    hide_arguments(argv)
    take_environment()
    sys.excepthook = show_exception
    try:
        parser = make_parser(bundle, argv)
        if not argv:
            parser.print_help(sys.stderr)
            return WRONG_USAGE
        arguments = parser.parse_args(names_apart(argv))
        if bundle is not None:
            arguments.bundle = bundle
        from .commands.dispatch import run_command  # --help does not get here

        return run_command(arguments)
    except EdgeclfError as error:
        show_message("error: {}".format(error))
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        # SIGTERM and SIGHUP have their own codes.
        code: int = getattr(interrupt, "exit_code", INTERRUPTED)
        return code
    except OSError as error:
        # If stdout failed, Python would report it again when it flushes it.
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 0  # the reader, such as `| head`, has closed the pipe
        show_message("error: {}".format(error))
        return EdgeclfError.exit_code
    except ImportError as error:
        # A bundle's importer has its own remedy for code that was changed.
        show_message("error: {}; {}".format(error, getattr(error, "remedy", _INSTALL.format(sys.executable))))
        return EdgeclfError.exit_code


if __name__ == "__main__":
    program()
