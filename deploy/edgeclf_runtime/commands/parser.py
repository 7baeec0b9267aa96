"""The device's command line: its commands, options and examples.  Knows nothing of what they do."""

import argparse
import os
import sys

from .. import __version__
from ..text.logs import LEVELS
from ..text.redaction import redact
from ..text.stdio import write_stderr
from ..text.terminal import printable
from .run_options import add_backend, add_choice, add_decision, add_device_name, add_run
from .values import core, positive, size


class _Once(argparse.Action):
    """Stores an option's value; of an option that is given again neither value may be ignored."""

    def __call__(self, parser, namespace, values, option_string=None):
        given = namespace.__dict__.setdefault("given", set())
        if self.option_strings and self.dest in given:
            what = "one source is read by one process" if self.dest == "source" else "one value was expected"
            raise argparse.ArgumentError(self, "it is given more than once; " + what)
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """A parser whose messages hold no secret, and nothing that commands a terminal."""

    color = False  # Python 3.14's would be taken for such a command

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        for action in (None, "store"):  # what an argument of one value is, unless it says something else
            self.register("action", action, _Once)

    def error(self, message):
        super().error(printable(message))

    def _print_message(self, message, file=None):
        text = printable(redact(message or ""), "\n")
        if file in (None, sys.stderr):
            write_stderr(text)
        else:
            file.write(text)
            file.flush()  # here a full disk is an error


def names_apart(argv):
    """Return a command line in which files whose names begin with "-" cannot be taken for options."""
    apart = list(argv)
    for at, word in enumerate(apart):
        if word.startswith("-") and os.path.lexists(word):
            from ..images.read import is_image_name  # costs every start some milliseconds

            if is_image_name(word) or apart[at - 1 : at] == ["--source"]:
                apart[at] = os.path.join(os.curdir, word)
    return apart


def make_parser(functions, bundle=None):
    """Return the parser of the command line.

    functions   by command: what the parsed ``arguments.command`` is to be
    bundle      the bundle that the command line was started from, or None where it is an argument
    """
    program = "python3 {}".format(os.path.basename(bundle)) if bundle else "python3 -m edgeclf_runtime"
    parser = _Parser(
        prog=program,
        description="Classify images and camera frames with a bundle made by edgeclf.",
        epilog="example: {} run --source /dev/video0 --json".format(program),
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="name")
    commands.required = True

    def add(name, summary, example, needs_bundle=True):
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
    add_choice(add("selftest", "hold each model to the golden images", "selftest"))
    _add_build(add("build", "build the TensorRT engines for this GPU, and find the fastest model", "build"))
    _add_classify(add("classify", "classify image files", "classify cat.jpg dog.png --json"))
    add_run(add("run", "classify frames until the source ends", "run --source /dev/video0 --live 8080 --json"))
    _add_bench(add("bench", "measure the latency of each model", "bench --repeat 200"))
    _add_service(
        add(
            "install-service",
            "make a systemd service of run, with the options of run",
            "install-service --name pets --source csi://0 --sink mqtt://broker/pets",
        )
    )
    _add_service_name(
        add("uninstall-service", "stop a systemd service and remove its unit file", "uninstall-service --name pets")
    )
    add("doctor", "look for what this machine lacks, and say how to mend it", "doctor", needs_bundle=False)
    return parser


def _add_build(parser):
    parser.add_argument("--model", metavar="NAME", help="this model alone (info lists them)")
    parser.add_argument(
        "--precision",
        choices=("best", "fp32", "fp16", "int8"),
        default="best",
        help="models of this precision alone; best: all, and remember the fastest that is right (best)",
    )
    parser.add_argument(
        "--workspace",
        dest="workspace_mb",
        type=positive,
        metavar="MB",
        help="memory that a build may work with; else by the GPU's",
    )
    parser.add_argument("--retry", action="store_true", help="build anew what is kept or failed before")
    parser.add_argument(
        "--level", type=int, choices=range(6), metavar="0-5", help="TensorRT's optimisation level, from 8.6 on (3)"
    )
    parser.add_argument(
        "--dla", type=core, metavar="CORE", help="run on this core of the DLA what it can run, the rest on the GPU"
    )
    parser.add_argument(
        "--calibrator",
        action="store_true",
        help="INT8 by TensorRT's calibrator from calibration.cache, not from the Q/DQ file (up to TensorRT 10)",
    )
    parser.add_argument(
        "--calibration", metavar="FOLDER", help="calibrate with these images on this device, not from calibration.cache"
    )
    parser.add_argument(
        "--version-compatible", action="store_true", help="an engine for later versions of TensorRT too; slower"
    )
    parser.add_argument(
        "--hardware-compatible", action="store_true", help="an engine for other GPUs since Ampere too; slower"
    )


def _add_classify(parser):
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file, a folder of images (not the folders in it), or a pattern such as 'photos/**/*.jpg'",
    )
    add_choice(parser)
    add_decision(parser)
    add_device_name(parser)


def _add_service(parser):
    service = parser.add_argument_group("service")
    _add_service_name(service)
    service.add_argument(
        "--user", default="edgeclf", metavar="NAME", help="account that it runs as, made unless it is there (edgeclf)"
    )
    service.add_argument("--no-start", dest="start", action="store_false", help="do not start it before the next boot")
    service.add_argument(
        "--overwrite", action="store_true", help="put it in the place of a unit that install-service did not make"
    )
    add_run(parser)


def _add_service_name(parser):
    parser.add_argument(
        "--name", dest="service_name", metavar="NAME", help="name of the service; else that of the bundle"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")


def run_parser():
    """Return a parser of the options of ``run`` only."""
    parser = _Parser(add_help=False)
    parser.add_argument("--json", action="store_true")
    _add_log(parser)
    add_run(parser)
    return parser


def _add_log(parser):
    parser.add_argument("--verbose", "-v", action="store_true", help="the same as --log-level info")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="log from this level on to stderr, with times (warning, without times); systemd's journal adds its own",
    )


def _add_bench(parser):
    parser.add_argument("--repeat", type=positive, default=100, metavar="N", help="frames a model (100)")
    parser.add_argument("--warmup", type=positive, default=10, metavar="N", help="frames before measuring (10)")
    parser.add_argument(
        "--size", type=size, default=(1280, 720), metavar="WxH", help="size of the camera's frames (1280x720)"
    )
    add_backend(parser)
