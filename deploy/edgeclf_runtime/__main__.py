"""The device's command line: ``python3 NAME.edge COMMAND``, or ``python3 -m edgeclf_runtime COMMAND NAME.edge``.

No logic: each command is a function of the runtime.  What was asked for goes to stdout, as
text or, with --json, as JSON; everything else goes to stderr.
"""

import argparse
import json
import logging
import os
import signal
import sys

from . import __version__
from .errors import BackendError, EdgeclfError, GateError

INTERRUPTED = 130
_INSTALL = (
    "numpy and OpenCV are needed: on a Jetson or Debian, sudo apt-get install python3-numpy python3-opencv; "
    "elsewhere, {} -m pip install numpy opencv-python-headless"
)


def main(argv=None, bundle=None):
    """Run a command and return its exit code: 0 done, 1 error, 2 usage, 3 a gate was not met.

    bundle      the bundle that the command line was started from, or None where it is an argument
    """
    parser = _parser(bundle)
    arguments = parser.parse_args(argv)
    if bundle is not None:
        arguments.bundle = bundle
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return arguments.command(arguments) or 0
    except EdgeclfError as error:
        print("error: {}".format(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Where stdout is what failed, Python would complain once more when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # the reader has gone, say `| head`
        print("error: {}".format(error), file=sys.stderr)
        return EdgeclfError.exit_code
    except ImportError as error:
        print("error: {}; {}".format(error, _INSTALL.format(sys.executable)), file=sys.stderr)
        return EdgeclfError.exit_code


def _terminate(number, frame):
    raise KeyboardInterrupt


def _parser(bundle):
    program = "python3 {}".format(os.path.basename(bundle)) if bundle else "python3 -m edgeclf_runtime"
    parser = argparse.ArgumentParser(
        prog=program,
        description="Classify images and camera frames with a bundle made by edgeclf.",
        epilog="example: {} run --source /dev/video0 --json".format(program),
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="name")
    commands.required = True

    def add(name, function, summary, example):
        command = commands.add_parser(
            name, help=summary, description=summary, epilog="example: {} {}".format(program, example)
        )
        command.set_defaults(command=function)
        if bundle is None:
            command.add_argument("bundle", metavar="NAME.edge", help="the bundle's folder")
        command.add_argument("--json", action="store_true", help="write JSON to stdout")
        return command

    add("info", _info, "verify the bundle and show what it holds", "info")
    selftest = add("selftest", _selftest, "hold each model to the golden images", "selftest")
    _add_choice(selftest, model=True)
    classify = add("classify", _classify, "classify image files", "classify cat.jpg dog.png --json")
    classify.add_argument("images", nargs="+", metavar="IMAGE")
    _add_choice(classify, model=True)
    _add_decision(classify)
    run = add("run", _run, "classify frames until the source ends", "run --source /dev/video0 --json")
    run.add_argument(
        "--source", required=True, help="video file, folder of images, /dev/video0, rtsp://..., http://..."
    )
    run.add_argument(
        "--realtime",
        action="store_true",
        help="play a video file at its own rate, dropping late frames as a camera would",
    )
    run.add_argument("--frames", type=_positive, metavar="N", help="stop after N frames")
    _add_choice(run, model=True)
    _add_decision(run)
    bench = add("bench", _bench, "measure the latency of each model", "bench --repeat 200")
    bench.add_argument("--repeat", type=_positive, default=100, metavar="N", help="frames a model (100)")
    bench.add_argument("--warmup", type=_positive, default=10, metavar="N", help="frames before measuring (10)")
    _add_choice(bench)
    return parser


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("{!r} is not a whole number of 1 or more".format(text))
    return int(text)


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("{!r} is not a number from 0 to 1".format(text))
    return value


def _add_choice(parser, model=False):
    if model:
        parser.add_argument(
            "--model", metavar="NAME", help="use this model (info lists them); else the first that runs here"
        )
    parser.add_argument("--backend", default="auto", metavar="NAME", help="use this backend; auto tries all")
    parser.add_argument("--threads", type=_positive, metavar="N", help="threads of the backend")


def _add_decision(parser):
    parser.add_argument("--top-k", type=_positive, default=5, metavar="K", help="labels to list (5)")
    parser.add_argument("--threshold", type=_share, metavar="P", help='confidence below which the label is "unknown"')


def _write(arguments, report):
    _print(json.dumps(report.to_dict()) if arguments.json else str(report))


def _print(text):
    """Print to a stdout of any encoding: a device's is often ASCII, its labels and file names may be not."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _info(arguments):
    from .info import info

    _write(arguments, info(arguments.bundle))


def _selftest(arguments):
    from .selftest import selftest

    report = selftest(arguments.bundle, arguments.model, arguments.backend, arguments.threads)
    _write(arguments, report)
    if not report.reports:
        raise BackendError("no model could be run on this machine, for the reasons above")
    if not report.passed:
        raise GateError(
            "a model failed its golden images on this machine; use another with --model, or make the bundle again"
        )


def _open(arguments):
    from .classifier import Classifier

    return Classifier.open(
        arguments.bundle, arguments.model, arguments.backend, arguments.top_k, arguments.threshold, arguments.threads
    )


def _classify(arguments):
    with _open(arguments) as classifier:
        for path in arguments.images:
            result = classifier.classify(path)
            if arguments.json:
                _print(json.dumps(dict({"image": path}, **result.to_dict())))
            else:
                _print("{}  {}".format(path, _top(result)))


def _run(arguments):
    from .camera import open_camera
    from .stream import stream

    frames = 0
    with _open(arguments) as classifier, open_camera(arguments.source, arguments.realtime) as camera:
        print("{} on {}".format(classifier.model, classifier.runner.backend), file=sys.stderr)
        try:
            for item in stream(classifier, camera):
                frames += 1
                if arguments.json:
                    _print(item.to_json())
                else:
                    _print(
                        "{:>6}  {}  age {:.1f} ms  {}".format(
                            item.frame.number, _top(item.result), item.age_ms, item.frame.name
                        ).rstrip()
                    )
                if frames == arguments.frames:
                    break
        finally:
            print(
                "{} frames classified, {} dropped, {} unreadable".format(frames, camera.dropped, camera.skipped),
                file=sys.stderr,
            )


def _bench(arguments):
    from .benchmark import bench

    _write(arguments, bench(arguments.bundle, arguments.repeat, arguments.warmup, arguments.backend, arguments.threads))


def _top(result):
    rest = "  ".join("{} {:.3f}".format(label, confidence) for label, confidence in result.top[1:3])
    return (
        "{} {:.3f}  ({})".format(result.label, result.confidence, rest)
        if rest
        else "{} {:.3f}".format(result.label, result.confidence)
    )


if __name__ == "__main__":
    sys.exit(main())
