"""The device's commands: ``python3 NAME.edge COMMAND``, or ``python3 -m edgeclf_runtime COMMAND NAME.edge``.

No logic: each command is a function of the runtime.  What was asked for goes to stdout, as
text or, with --json, as JSON; everything else goes to stderr.
"""

import os
import sys

if __name__ == "__main__" and sys.path[:1] in ([""], [os.getcwd()]):
    # ``python -m`` looks in the working folder first, where a folder json/ would take the place of Python's own;
    # Python 3.6 calls it "".
    del sys.path[0]

from .commands.output import print_text, write_report
from .commands.parser import make_parser, names_apart
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


def main(argv=None, bundle=None):
    """Run a command and return its exit code: 0 done, 1 error, 2 usage, 3 a gate was not met.

    bundle      the bundle that the command line was started from, or None where it is an argument
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
            return arguments.command(arguments) or 0
    except EdgeclfError as error:
        show_message("error: {}".format(error))
        return error.exit_code
    except Terminated as terminated:
        return terminated.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Where stdout is what failed, Python would complain once more when it flushes it.
        silence(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 0  # the reader has gone, say `| head`
        show_message("error: {}".format(error))
        return EdgeclfError.exit_code
    except ImportError as error:
        # A bundle's importer has a remedy of its own for code that was changed.
        show_message("error: {}; {}".format(error, getattr(error, "remedy", _INSTALL.format(sys.executable))))
        return EdgeclfError.exit_code


def _info(arguments):
    from .commands.info import info

    write_report(arguments, info(arguments.bundle))


def _selftest(arguments):
    from .commands.selftest import selftest

    report = selftest(arguments.bundle, arguments.model, arguments.backend, arguments.threads)
    write_report(arguments, report)
    if not report.reports:
        raise BackendError("no model could be run on this machine, for the reasons above")
    if not report.passed:
        raise GateError(
            "a model failed its golden images on this machine; use another with --model, or make the bundle again"
        )


def _build(arguments):
    from .commands.build import build
    from .trt.spec import EngineOptions

    options = EngineOptions(**{name: getattr(arguments, name) for name in EngineOptions._fields})
    report = build(arguments.bundle, arguments.model, arguments.precision, options)
    write_report(arguments, report)
    if not report.engines:
        raise BackendError("no engine could be built, for the reasons above")


def _classify(arguments):
    from .commands.classify import classify

    return classify(arguments)


def _run(arguments):
    from .commands.run import run

    run(arguments)


def _bench(arguments):
    from .commands.bench import bench

    names = ("repeat", "warmup", "backend", "threads", "size")
    write_report(arguments, bench(arguments.bundle, **{name: getattr(arguments, name) for name in names}))


def _doctor(arguments):
    from .commands.doctor.report import doctor

    report = doctor(arguments.bundle)
    if arguments.json:
        write_report(arguments, report)
    else:
        # It has colors of its own, and has escaped what it found.
        print(encodable(str(report), sys.stdout), flush=True)
    return 0 if report.passed else EdgeclfError.exit_code


def _install_service(arguments):
    from .commands.service.install import install, plan_service

    plan = plan_service(arguments)
    for note in plan.notes:
        show_message("note: {}".format(note))
    if arguments.dry_run:
        # A unit file is in UTF-8, whatever the terminal is.
        sys.stdout.flush()
        sys.stdout.buffer.write(str(plan).encode("utf-8"))
        return
    install(plan)
    show_message("{0} is installed; see: systemctl status {0}; journalctl -u {0} -f".format(plan.unit.name))


def _uninstall_service(arguments):
    from .commands.service.install import service_name, uninstall
    from .commands.service.unit import CACHE, STATE

    name = service_name(arguments.service_name, arguments.bundle)
    commands = uninstall(name, arguments.dry_run)
    if arguments.dry_run:
        print_text("\n".join(commands), newline="\n")
    show_message("its files stay, for you to remove: {}/{name}, {}/{name}".format(CACHE, STATE, name=name))


COMMANDS = {
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
