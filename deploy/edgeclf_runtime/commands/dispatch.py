"""Runs the command that was parsed: each calls a function of the runtime and prints what it returns."""

import sys
from typing import TYPE_CHECKING, Callable, Dict, Optional

from ..device.stop_signals import stoppable
from ..errors import BackendError, EdgeclfError, GateError
from ..text.logs import log_to_stderr
from ..text.terminal import encodable, show_message
from .output import print_text, write_report

if TYPE_CHECKING:
    from argparse import Namespace


def run_command(arguments: "Namespace") -> int:
    """Run a parsed command line's command and return its exit code."""
    log_to_stderr(arguments.log_level or ("info" if arguments.verbose else None))
    with stoppable():
        return COMMANDS[arguments.name](arguments) or 0


def _info(arguments: "Namespace") -> None:
    from .info import info

    write_report(arguments, info(arguments.bundle))


def _selftest(arguments: "Namespace") -> None:
    from .selftest import selftest

    report = selftest(arguments.bundle, arguments.model, arguments.backend, arguments.threads)
    write_report(arguments, report)
    if not report.reports:
        raise BackendError("no model runs on this machine, for the reasons above")
    if not report.passed:
        raise GateError(
            "a model failed its golden images on this machine; use another one with --model, or make the bundle again"
        )


def _build(arguments: "Namespace") -> None:
    from ..trt.engine_spec import EngineOptions
    from .build import build

    options = EngineOptions(**{name: getattr(arguments, name) for name in EngineOptions._fields})
    report = build(arguments.bundle, arguments.model, arguments.precision, options)
    write_report(arguments, report)
    if not report.engines:
        raise BackendError("no engine could be built, for the reasons above")


def _classify(arguments: "Namespace") -> int:
    from .classify import classify

    return classify(arguments)


def _run(arguments: "Namespace") -> None:
    from .run.run import run

    run(arguments)


def _bench(arguments: "Namespace") -> None:
    from .bench import bench
    from .classify import show_tuning

    names = ("repeat", "warmup", "backend", "threads", "size", "tune")
    options = {name: getattr(arguments, name) for name in names}
    write_report(arguments, bench(arguments.bundle, show_tuning=show_tuning(arguments), **options))


def _doctor(arguments: "Namespace") -> int:
    from .doctor.report import doctor

    report = doctor(arguments.bundle)
    if arguments.json:
        write_report(arguments, report)
    else:
        # The text has colors, and what the doctor found is already escaped in it.
        print(encodable(str(report), sys.stdout), flush=True)
    return 0 if report.passed else EdgeclfError.exit_code


def _report(arguments: "Namespace") -> None:
    from .report.report import write_board_report

    names = ("output", "overwrite", "repeat", "minutes")
    report = write_board_report(arguments.bundle, **{name: getattr(arguments, name) for name in names})
    write_report(arguments, report)
    show_message('next: check {}, then send it as "Boards" in the documentation says'.format(arguments.output))
    if not report.tested:
        raise BackendError("no model runs on this machine, for the reasons above; python3 NAME.edge doctor says more")
    if not report.passed:
        raise GateError("a model failed its golden images on this machine; the report says which")


def _install_service(arguments: "Namespace") -> None:
    from .service.install import install, plan_service

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


def _uninstall_service(arguments: "Namespace") -> None:
    from .service.install import service_name, uninstall
    from .service.unit import CACHE, STATE

    name = service_name(arguments.service_name, arguments.bundle)
    commands = uninstall(name, arguments.dry_run)
    if arguments.dry_run:
        print_text("\n".join(commands), newline="\n")
    show_message("its files are kept, for you to remove: {}/{name}, {}/{name}".format(CACHE, STATE, name=name))


# Returns the exit code, or None for 0.
COMMANDS: "Dict[str, Callable[[Namespace], Optional[int]]]" = {
    "info": _info,
    "selftest": _selftest,
    "build": _build,
    "classify": _classify,
    "run": _run,
    "bench": _bench,
    "doctor": _doctor,
    "report": _report,
    "install-service": _install_service,
    "uninstall-service": _uninstall_service,
}
