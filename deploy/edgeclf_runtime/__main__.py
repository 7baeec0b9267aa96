"""The device's commands: ``python3 NAME.edge COMMAND``, or ``python3 -m edgeclf_runtime COMMAND NAME.edge``.

Each command calls a function of the runtime.  Results go to stdout, as text or, with --json, as JSON; everything else goes to
stderr.
"""

import os
import sys
from typing import Any, Dict, Optional, Sequence

if __name__ == "__main__" and sys.path[:1] in ([""], [os.getcwd()]):
    # ``python -m`` searches the working folder first, where a folder json/ would replace Python's own module; Python 3.6
    # calls that folder "".
    del sys.path[0]

from .commands.output import print_text, write_report
from .commands.parser import Command, make_parser, names_apart
from .device.credentials import hide_arguments, take_environment
from .device.stopping import Terminated, leave, stoppable
from .errors import BackendError, EdgeclfError, GateError
from .text.logs import log_to_stderr
from .text.stdio import open_missing, silence
from .text.terminal import encodable, show_exception, show_message

INTERRUPTED = 130
_INSTALL = (
    "numpy and OpenCV are needed: on Debian and Ubuntu, sudo apt-get install python3-numpy python3-opencv; on a Jetson "
    "libopencv-python instead of python3-opencv; elsewhere, {} -m pip install numpy opencv-python-headless"
)


def main(argv: Optional[Sequence[str]] = None, bundle: Optional[str] = None) -> int:
    """Run a command and return its exit code: 0 done, 1 error, 2 usage, 3 a gate was not met.

    bundle      the bundle that the command line was started from; None: it is an argument
    """
    open_missing()
    argv = sys.argv[1:] if argv is None else argv
    hide_arguments(argv)
    take_environment()
    sys.excepthook = show_exception
    try:
        arguments = make_parser(COMMANDS, bundle).parse_args(names_apart(argv))
        if bundle is not None:
            arguments.bundle = bundle
        log_to_stderr(arguments.log_level or ("info" if arguments.verbose else None))
        with stoppable():
            command: Command = arguments.command
            return command(arguments) or 0
    except EdgeclfError as error:
        show_message("error: {}".format(error))
        return error.exit_code
    except Terminated as terminated:
        code: int = terminated.exit_code
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
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


def _info(arguments: Any) -> None:
    from .commands.info import info

    write_report(arguments, info(arguments.bundle))


def _selftest(arguments: Any) -> None:
    from .commands.selftest import selftest

    report = selftest(arguments.bundle, arguments.model, arguments.backend, arguments.threads)
    write_report(arguments, report)
    if not report.reports:
        raise BackendError("no model runs on this machine, for the reasons above")
    if not report.passed:
        raise GateError(
            "a model failed its golden images on this machine; use another one with --model, or make the bundle again"
        )


def _build(arguments: Any) -> None:
    from .commands.build import build
    from .trt.engine_spec import EngineOptions

    options = EngineOptions(**{name: getattr(arguments, name) for name in EngineOptions._fields})
    report = build(arguments.bundle, arguments.model, arguments.precision, options)
    write_report(arguments, report)
    if not report.engines:
        raise BackendError("no engine could be built, for the reasons above")


def _classify(arguments: Any) -> int:
    from .commands.classify import classify

    return classify(arguments)


def _run(arguments: Any) -> None:
    from .commands.run import run

    run(arguments)


def _bench(arguments: Any) -> None:
    from .commands.bench import bench

    names = ("repeat", "warmup", "backend", "threads", "size")
    write_report(arguments, bench(arguments.bundle, **{name: getattr(arguments, name) for name in names}))


def _doctor(arguments: Any) -> int:
    from .commands.doctor.report import doctor

    report = doctor(arguments.bundle)
    if arguments.json:
        write_report(arguments, report)
    else:
        # The text has colors, and what the doctor found is already escaped in it.
        print(encodable(str(report), sys.stdout), flush=True)
    return 0 if report.passed else EdgeclfError.exit_code


def _install_service(arguments: Any) -> None:
    from .commands.service.install import install, plan_service

    plan = plan_service(arguments)
    for note in plan.notes:
        show_message("note: {}".format(note))
    if arguments.dry_run:
        # A unit file is in UTF-8, whatever the terminal's encoding is.
        sys.stdout.flush()
        sys.stdout.buffer.write(str(plan).encode("utf-8"))
        return
    install(plan)
    show_message("{0} is installed; see: systemctl status {0}; journalctl -u {0} -f".format(plan.unit.name))


def _uninstall_service(arguments: Any) -> None:
    from .commands.service.install import service_name, uninstall
    from .commands.service.unit import CACHE, STATE

    name = service_name(arguments.service_name, arguments.bundle)
    commands = uninstall(name, arguments.dry_run)
    if arguments.dry_run:
        print_text("\n".join(commands), newline="\n")
    show_message("its files are kept, for you to remove: {}/{name}, {}/{name}".format(CACHE, STATE, name=name))


COMMANDS: Dict[str, Command] = {
    "info": _info,
    "selftest": _selftest,
    "build": _build,
    "classify": _classify,
    "run": _run,
    "bench": _bench,
    "doctor": _doctor,
    "install-service": _install_service,
    "uninstall-service": _uninstall_service,
}


if __name__ == "__main__":
    leave(main())
