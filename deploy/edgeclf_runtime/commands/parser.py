"""The device's command line: its commands, options and examples."""

import argparse
import os
import sys
from typing import Any, Callable, Dict, Iterable, List, Optional

from .. import __version__
from ..text.logs import LEVELS
from ..text.redaction import redact
from ..text.stdio import write_stderr
from ..text.terminal import printable
from .option_types import PRECISIONS, core, positive, size
from .run_options import add_backend, add_choice, add_decision, add_device_name, add_run

# Runs a command; returns its exit code, or None for 0.
Command = Callable[[Any], Optional[int]]


class _Once(argparse.Action):
    """Stores an option's value, and refuses a second one instead of ignoring the first."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Optional[str] = None
    ) -> None:
        given = namespace.__dict__.setdefault("given", set())
        if self.option_strings and self.dest in given:
            what = "a process reads one source" if self.dest == "source" else "one value was expected"
            raise argparse.ArgumentError(self, "it is given more than once; " + what)
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """A parser whose messages contain no secrets and no terminal control codes."""

    color = False  # Python 3.14's codes would be escaped

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for action in (None, "store"):  # the default action of an argument with one value
            self.register("action", action, _Once)

    def error(self, message: str) -> Any:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        text = printable(redact(message or ""), "\n")
        if file in (None, sys.stderr):
            write_stderr(text)
        else:
            file.write(text)
            file.flush()  # here a full disk is an error


def names_apart(argv: Iterable[str]) -> List[str]:
    """Return a command line in which files whose names begin with "-" cannot be taken for options."""
    apart = list(argv)
    for at, word in enumerate(apart):
        if word.startswith("-") and os.path.lexists(word):
            from ..images.read import is_image_name  # would cost every start some milliseconds

            if is_image_name(word) or apart[at - 1 : at] == ["--source"]:
                apart[at] = os.path.join(os.curdir, word)
    return apart


def make_parser(functions: Dict[str, Command], bundle: Optional[str] = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    functions   the value of ``arguments.command`` for each command
    bundle      the bundle that the command line was started from; None: it is an argument
    """
    program = "python3 {}".format(os.path.basename(bundle)) if bundle else "python3 -m edgeclf_runtime"
    parser = _Parser(
        prog=program,
        description="Classify images and camera frames with a bundle that edgeclf made.",
        epilog="example: {} run --source /dev/video0 --json".format(program),
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="name")
    commands.required = True

    def add(name: str, summary: str, example: str, needs_bundle: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary, epilog="example: {} {}".format(program, example)
        )
        command.set_defaults(command=functions[name])
        if bundle is None:
            command.add_argument(
                "bundle", metavar="NAME.edge", nargs=None if needs_bundle else "?", help="the bundle's folder"
            )
        command.add_argument("--json", action="store_true", help="write JSON to stdout")
        _add_log(command)
        return command

    add("info", "verify the bundle and show what it holds", "info")
    add_choice(add("selftest", "check each model's logits on the golden images", "selftest"))
    _add_build(add("build", "build the TensorRT engines for this GPU, and find the fastest model", "build"))
    _add_classify(add("classify", "classify image files", "classify cat.jpg dog.png --json"))
    add_run(add("run", "classify frames until the source ends", "run --source /dev/video0 --live 8080 --json"))
    _add_bench(add("bench", "measure the latency of each model", "bench --repeat 200"))
    _add_service(
        add(
            "install-service",
            "install run as a systemd service, with the options of run",
            "install-service --name pets --source csi://0 --sink mqtt://broker/pets",
        )
    )
    _add_service_name(
        add("uninstall-service", "stop a systemd service and remove its unit file", "uninstall-service --name pets")
    )
    add("doctor", "find what is missing on this machine, and how to fix it", "doctor", needs_bundle=False)
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--workspace",
        type=positive,
        metavar="MB",
        help="memory for a build in MB (default: based on the GPU's memory)",
    )
    parser.add_argument(
        "--retry", action="store_true", help="build even if the engine is cached, or failed to build before"
    )
    parser.add_argument(
        "--level",
        type=int,
        choices=range(6),
        metavar="0-5",
        help="TensorRT's optimization level, from TensorRT 8.6 on (default: 3)",
    )
    parser.add_argument(
        "--dla",
        type=core,
        metavar="CORE",
        help="DLA core, 0 or 1, for the layers that it supports; the GPU runs the others (default: GPU only)",
    )
    parser.add_argument(
        "--calibrator",
        action="store_true",
        help="make INT8 with TensorRT's calibrator and calibration.cache, up to TensorRT 10 (default: from the Q/DQ file)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        help="calibrate with the images in this folder, instead of calibration.cache",
    )
    parser.add_argument(
        "--version-compatible",
        action="store_true",
        help="make engines that later TensorRT versions can use too; slower",
    )
    parser.add_argument(
        "--hardware-compatible",
        action="store_true",
        help="make engines that other Ampere or newer GPUs can use too; slower",
    )


def _add_classify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file, a folder of images (without its subfolders), or a pattern such as 'photos/**/*.jpg'",
    )
    add_choice(parser)
    add_decision(parser)
    add_device_name(parser)


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


def _add_service_name(parser: Any) -> None:
    parser.add_argument(
        "--name", dest="service_name", metavar="NAME", help="name of the service (default: the bundle's name)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the steps without carrying them out")


def run_parser() -> argparse.ArgumentParser:
    """Return a parser with only the options of ``run``."""
    parser = _Parser(add_help=False)
    parser.add_argument("--json", action="store_true")
    _add_log(parser)
    add_run(parser)
    return parser


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", "-v", action="store_true", help="same as --log-level info")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="log messages of this level and above to stderr, with times unless systemd's journal adds them "
        "(default: warning, without times)",
    )


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
