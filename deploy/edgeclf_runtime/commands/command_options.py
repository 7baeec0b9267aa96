"""Options of the device's commands."""

import argparse
from typing import Callable, Dict

from ..text.logs import LEVELS
from .option_types import PRECISIONS, VALUES, positive, size
from .run.run_options import add_backend, add_choice, add_decision, add_device_name, add_no_tune, add_run, add_tune


def add_options(parser: argparse.ArgumentParser, command: str, names_bundle: bool) -> None:
    """Add a command's options and arguments.

    names_bundle    whether the bundle is an argument
    """
    if names_bundle:
        nargs = "?" if command == "doctor" else None
        parser.add_argument("bundle", metavar="NAME.edge", nargs=nargs, help="the bundle's folder")
    parser.add_argument("--json", action="store_true", help="write JSON to stdout")
    _add_log(parser)
    if command in _OPTIONS:
        _OPTIONS[command](parser)


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", "-v", action="store_true", help="same as --log-level info")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="log messages of this level and above to stderr, with times unless systemd's journal adds them "
        "(default: warning, without times)",
    )


def _add_build(parser: argparse.ArgumentParser) -> None:
    from ..trt.engine_spec import OPTIONS

    parser.add_argument(
        "--model", metavar="NAME", help="build only this model of the bundle; info lists them (default: all)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="best",
        help="build only models of this precision; best: build all, and remember the fastest that passes the golden images "
        "(default: best)",
    )
    for name, one in OPTIONS.items():
        values = VALUES[one.metavar] if one.metavar else {"action": "store_true"}
        shown = " (default: {})".format(one.shown) if one.shown else ""
        parser.add_argument("--" + name.replace("_", "-"), help=one.help + shown, **values)


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file, a folder of images (without its subfolders), or a pattern such as 'photos/**/*.jpg'",
    )
    add_choice(parser)
    add_decision(parser)
    add_tune(parser, first_start=False)
    add_device_name(parser)


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument(
        "--print-config", action="store_true", help="print the options as a file for --config, and do nothing else"
    )


def _add_service(parser: argparse.ArgumentParser) -> None:
    service = parser.add_argument_group("service")
    _add_service_name(service)
    service.add_argument(
        "--user",
        default="edgeclf",
        metavar="NAME",
        help="account of the service, created if it does not exist (default: edgeclf)",
    )
    service.add_argument(
        "--no-start", dest="start", action="store_false", help="do not start the service before the next boot"
    )
    service.add_argument(
        "--overwrite", action="store_true", help="replace a unit even if install-service did not make it"
    )
    add_run(parser)


def _add_service_name(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--name", dest="service_name", metavar="NAME", help="name of the service (default: the bundle's name)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps without carrying them out")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeat", type=positive, default=100, metavar="N", help="number of frames to measure per model (default: 100)"
    )
    parser.add_argument(
        "--warmup",
        type=positive,
        default=10,
        metavar="N",
        help="number of frames before each measurement (default: 10)",
    )
    parser.add_argument(
        "--size", type=size, default=(1280, 720), metavar="WxH", help="size of the frames (default: 1280x720)"
    )
    add_backend(parser)
    add_no_tune(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", default="board.json", metavar="FILE", help="the file to write (default: board.json)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--repeat",
        type=positive,
        default=100,
        metavar="N",
        help="number of frames to measure for each model on each backend (default: 100)",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        default=30,
        metavar="N",
        help="leave out what does not fit into this time (default: 30)",
    )


_OPTIONS: Dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "selftest": add_choice,
    "build": _add_build,
    "classify": _add_classify,
    "run": _add_run,
    "bench": _add_bench,
    "report": _add_report,
    "install-service": _add_service,
    "uninstall-service": _add_service_name,
}
