"""The device's command line: its commands, options and examples.  Knows nothing of what they do."""

import argparse
import os
import sys

from . import __version__
from .logs import LEVELS
from .redaction import redact
from .result import A_DEVICE_NAME, is_device_name
from .stdio import write_stderr
from .terminal import printable


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
            from .images import is_image_name  # costs every start some milliseconds

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
    _add_choice(add("selftest", "hold each model to the golden images", "selftest"))
    _add_build(add("build", "build the TensorRT engines for this GPU, and find the fastest model", "build"))
    _add_classify(add("classify", "classify image files", "classify cat.jpg dog.png --json"))
    _add_run(add("run", "classify frames until the source ends", "run --source /dev/video0 --live 8080 --json"))
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
        "--workspace", type=_positive, metavar="MB", help="memory that a build may work with; else by the GPU's"
    )
    parser.add_argument("--retry", action="store_true", help="build anew what is kept or failed before")
    parser.add_argument(
        "--level", type=int, choices=range(6), metavar="0-5", help="TensorRT's optimisation level, from 8.6 on (3)"
    )
    parser.add_argument(
        "--dla", type=_core, metavar="CORE", help="run on this core of the DLA what it can run, the rest on the GPU"
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
    _add_choice(parser)
    _add_decision(parser)
    _add_device_name(parser)


def _add_run(parser):
    source = parser.add_argument_group("source")
    source.add_argument(
        "--source",
        required=True,
        metavar="URI",
        help="csi://0, /dev/video0, /dev/v4l/by-id/..., rtsp://..., http://... (MJPEG, an image, a film), gst://PIPELINE, test://, a video file, a folder or pattern of images",
    )
    source.add_argument(
        "--password-file",
        metavar="FILE",
        help="the camera's password, a file of one line; else the environment's EDGECLF_CAMERA_PASSWORD; for rtsp://USER@HOST, "
        "and wherever {password} stands",
    )
    source.add_argument("--width", type=_positive, metavar="N", help="picture width to ask the camera for")
    source.add_argument("--height", type=_positive, metavar="N", help="picture height to ask the camera for")
    source.add_argument(
        "--fps",
        type=_positive,
        metavar="N",
        help="frames a second to ask the camera for, or at which images were taken",
    )
    source.add_argument(
        "--format", metavar="NAME", help="a USB camera's format, MJPG or YUYV; else MJPG if size or rate needs it"
    )
    source.add_argument(
        "--control",
        action="append",
        type=_control,
        metavar="NAME=VALUE",
        help="set a USB camera's control, say exposure=100, at each opening; may be given again (default: as the camera has it)",
    )
    source.add_argument("--flip", choices=("horizontal", "vertical", "180"), help="for a camera that hangs upside down")
    source.add_argument(
        "--policy",
        choices=("auto", "latest", "all"),
        default="auto",
        help="latest: play a video file at its own rate and drop late frames, as a camera; all: every frame of a file",
    )
    source.add_argument(
        "--timeout", type=_seconds, default=3.0, metavar="S", help="reopen a camera without a frame for so long (3)"
    )
    source.add_argument(
        "--frozen",
        type=_seconds_or_zero,
        metavar="S",
        help="reopen a camera with the same picture for so long (10; images by HTTP: 0); 0 never",
    )
    source.add_argument("--frames", type=_positive, metavar="N", help="stop after N frames")
    source.add_argument(
        "--wait",
        action="store_true",
        default=None,
        help="wait for a camera, a broker or a disk that is not there yet, as for one that is lost (default for a service of systemd)",
    )
    source.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        default=None,
        help="end at once without them (default elsewhere)",
    )
    _add_device_name(source)
    _add_choice(parser)
    _add_decision(parser)
    _add_smoothing(parser)
    _add_sinks(parser)


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
    _add_run(parser)


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
    _add_run(parser)
    return parser


def _add_log(parser):
    parser.add_argument("--verbose", "-v", action="store_true", help="the same as --log-level info")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="log from this level on to stderr, with times (warning, without times); systemd's journal adds its own",
    )


def _add_smoothing(parser):
    parser.add_argument(
        "--smooth",
        type=_seconds,
        metavar="S",
        help="average confidences over about S seconds of the camera's or the film's time, so that labels do not flicker",
    )
    parser.add_argument(
        "--margin",
        type=_share,
        default=0.1,
        metavar="P",
        help="with --smooth: how far another label must be ahead (0.1)",
    )


def _add_sinks(parser):
    sinks = parser.add_argument_group("where results go, besides stdout")
    sinks.add_argument(
        "--sink",
        action="append",
        default=[],
        metavar="TARGET",
        help="results.jsonl, results.csv, annotated.webm (or .mp4, .avi) or mqtt://HOST/TOPIC (mqtts:// for TLS); "
        "may be given again",
    )
    sinks.add_argument(
        "--mqtt-password-file",
        metavar="FILE",
        help="the password for mqtt://USER@HOST, a file of one line; else the environment's EDGECLF_MQTT_PASSWORD",
    )
    for option, what in (
        ("ca", "certificates of the authorities that may have signed the broker's, instead of the system's"),
        ("cert", "this program's own certificate, for a broker that asks for one"),
        ("key", "the private key of --mqtt-cert"),
    ):
        sinks.add_argument("--mqtt-" + option, metavar="FILE", help="for mqtts://: {}, in PEM".format(what))
    sinks.add_argument(
        "--live",
        metavar="[HOST:]PORT",
        help="show picture and label on a web page, to this machine alone unless HOST is given (0.0.0.0: to every network)",
    )
    _add_live(sinks)
    sinks.add_argument("--uncertain", metavar="FOLDER", help="keep frames of low confidence for labelling")
    sinks.add_argument("--uncertain-below", type=_share, default=0.6, metavar="P", help="which confidence is low (0.6)")
    sinks.add_argument(
        "--uncertain-megabytes", type=_positive, default=500, metavar="N", help="how much to keep, newest last (500)"
    )
    sinks.add_argument("--quiet", action="store_true", help="write no results to stdout")


def _add_live(parser):
    parser.add_argument(
        "--live-token-file",
        metavar="FILE",
        help="token for --live, in one line; else EDGECLF_LIVE_TOKEN, else one is made where a network reaches the page",
    )
    parser.add_argument("--live-open", action="store_true", help="with --live: let the network in without a token")
    parser.add_argument(
        "--live-name",
        action="append",
        default=[],
        metavar="NAME",
        help="with --live: another host name of this page, say a proxy's; may be given again",
    )
    parser.add_argument(
        "--live-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="with --live: believe what this proxy says of its clients (X-Forwarded-For, -Proto); may be given again",
    )
    parser.add_argument("--live-cert", metavar="FILE", help="with --live: certificate for https, in PEM")
    parser.add_argument("--live-key", metavar="FILE", help="with --live: the certificate's private key, in PEM")


def _add_bench(parser):
    parser.add_argument("--repeat", type=_positive, default=100, metavar="N", help="frames a model (100)")
    parser.add_argument("--warmup", type=_positive, default=10, metavar="N", help="frames before measuring (10)")
    parser.add_argument(
        "--size", type=_size, default=(1280, 720), metavar="WxH", help="size of the camera's frames (1280x720)"
    )
    _add_backend(parser)


def _add_choice(parser):
    parser.add_argument(
        "--model", metavar="NAME", help="use this model (info lists them); else the first that runs here"
    )
    _add_backend(parser)


def _add_backend(parser):
    parser.add_argument("--backend", default="auto", metavar="NAME", help="use this backend; auto tries all")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of the backend")


def _add_decision(parser):
    parser.add_argument("--top-k", type=_positive, default=5, metavar="K", help="labels to list (5)")
    parser.add_argument("--threshold", type=_share, metavar="P", help='confidence below which the label is "unknown"')
    parser.add_argument("--allow", action="append", metavar="LABEL", help="answer with this label; may be given again")
    parser.add_argument("--deny", action="append", metavar="LABEL", help="never answer with it; may be given again")
    parser.add_argument(
        "--roi",
        type=_region,
        metavar="X,Y,W,H",
        help="classify this part: pixels, or shares of the picture (0.25,0,0.5,1.0)",
    )
    parser.add_argument(
        "--rotation", type=int, choices=(0, 90, 180, 270), default=0, help="turn the picture clockwise, before --roi"
    )
    parser.add_argument(
        "--tune", action="store_true", help="measure what runs here, use the fastest, and remember it for the next time"
    )


def _add_device_name(parser):
    parser.add_argument(
        "--device-name",
        type=_device_name,
        metavar="NAME",
        help="name in each result of what made it; else the environment's EDGECLF_DEVICE_NAME",
    )


def _device_name(text):
    if not is_device_name(text):
        raise argparse.ArgumentTypeError("{!a} is no name of a device; {} was expected".format(text, A_DEVICE_NAME))
    return text


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("{!r} is not a whole number of 1 or more".format(text))
    return int(text)


def _control(text):
    name, equals, value = text.partition("=")
    if not (name.strip() and equals and value.strip()):
        raise argparse.ArgumentTypeError("{!r} sets no control; NAME=VALUE was expected".format(text))
    return name.strip(), value.strip()


def _core(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("{!r} is no number of a core; 0 or 1 was expected".format(text))
    return int(text)


def _size(text):
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and 0 < int(width) <= 8192 and 0 < int(height) <= 8192):
        raise argparse.ArgumentTypeError("{!r} is no size; WIDTHxHEIGHT, each 1 to 8192, was expected".format(text))
    return int(width), int(height)


def _number(text):
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _share(text):
    if not 0 <= _number(text) <= 1:
        raise argparse.ArgumentTypeError("{!r} is not a number from 0 to 1".format(text))
    return float(text)


def _seconds_or_zero(text):
    if not 0 <= _number(text) < float("inf"):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds".format(text))
    return float(text)


def _seconds(text):
    if not _seconds_or_zero(text):
        raise argparse.ArgumentTypeError("{!r} is not a number of seconds above 0".format(text))
    return float(text)


def _region(text):
    parts = text.split(",")
    kind = int if all(part.strip().isdecimal() for part in parts) else float
    try:
        x, y, width, height = (kind(part) for part in parts)
    except ValueError:
        raise argparse.ArgumentTypeError("{!r} is no region; X,Y,WIDTH,HEIGHT was expected".format(text))
    return x, y, width, height
