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

import contextlib
import json
import logging

from .arguments import make_parser
from .credentials import CAMERA, MQTT, hide_arguments, read_password, take_environment
from .errors import BackendError, EdgeclfError, GateError, ImageError
from .redaction import learn
from .stopping import Terminated, leave, stoppable
from .terminal import (
    LogFormatter,
    encodable,
    printable,
    printable_json,
    show_exception,
    show_message,
)

_log = logging.getLogger(__name__)

INTERRUPTED, TERMINATED = 130, 143
_VIDEO_OF_IMAGES_FPS = 15
_INSTALL = (
    "numpy and OpenCV are needed: on a Jetson or Debian, sudo apt-get install python3-numpy python3-opencv; "
    "elsewhere, {} -m pip install numpy opencv-python-headless"
)


def main(argv=None, bundle=None):
    """Run a command and return its exit code: 0 done, 1 error, 2 usage, 3 a gate was not met.

    bundle      the bundle that the command line was started from, or None where it is an argument
    """
    argv = sys.argv[1:] if argv is None else argv
    hide_arguments(argv)
    take_environment()
    sys.excepthook = show_exception
    arguments = make_parser(COMMANDS, bundle).parse_args(argv)
    if bundle is not None:
        arguments.bundle = bundle
    _log_to_stderr()
    try:
        with stoppable():
            return arguments.command(arguments) or 0
    except EdgeclfError as error:
        show_message("error: {}".format(error))
        return error.exit_code
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # Where stdout is what failed, Python would complain once more when it flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 0  # the reader has gone, say `| head`
        show_message("error: {}".format(error))
        return EdgeclfError.exit_code
    except ImportError as error:
        # A bundle's importer has a remedy of its own for code that was changed.
        show_message("error: {}; {}".format(error, getattr(error, "remedy", _INSTALL.format(sys.executable))))
        return EdgeclfError.exit_code


def _log_to_stderr():
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _write(arguments, report):
    if arguments.json:
        _print_json(json.dumps(report.to_dict()))
    else:
        _print(report, newline="\n")


def _print(text, newline="\\n"):
    """Print one line, or with "\n" several, to a stdout of any encoding."""
    print(encodable(printable(text, newline), sys.stdout), flush=True)


def _print_json(text):
    print(printable_json(text), flush=True)


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


def _build(arguments):
    from .engine_build import build
    from .engine_choice import Options

    names = ("retry", "level", "dla", "calibrator", "calibration", "version_compatible", "hardware_compatible")
    options = Options(
        workspace_bytes=arguments.workspace << 20 if arguments.workspace else None,
        **{name: getattr(arguments, name) for name in names},
    )
    report = build(arguments.bundle, arguments.model, arguments.precision, options)
    _write(arguments, report)
    if not report.engines:
        raise BackendError("no engine could be built, for the reasons above")


def _open(arguments, at_once=1):
    from .classifier import Classifier

    names = ("model", "backend", "top_k", "threshold", "allow", "deny", "threads", "tune")
    return Classifier.open(arguments.bundle, **{name: getattr(arguments, name) for name in names}, at_once=at_once)


def _classify(arguments):
    code = 0
    with _open(arguments) as classifier:
        for path in arguments.images:
            try:
                result = classifier.classify(path, arguments.roi, arguments.rotation)
            except ImageError as error:
                # One line, whatever the file's name is.
                show_message(printable("error: {}".format(error)))
                code = error.exit_code
                continue
            if arguments.json:
                _print_json(json.dumps(dict({"image": path}, **result.to_dict())))
            else:
                _print("{}  {}".format(path, result))
    return code


def _run(arguments):
    from .bundle import open_bundle
    from .camera import open_camera
    from .machine import cores
    from .run import Run
    from .smoothing import Smoother

    _warn_of_typed_passwords(arguments)
    arguments.bundle = open_bundle(arguments.bundle)
    with contextlib.ExitStack() as stack:
        # The camera opens in its own process, while the model loads in this one.
        camera = stack.enter_context(
            open_camera(
                arguments.source,
                arguments.width,
                arguments.height,
                arguments.fps,
                arguments.flip,
                arguments.policy,
                arguments.timeout,
                arguments.frozen,
                wait=False,
                password=_password(arguments.password_file),
            )
        )
        at_once = (arguments.threads or cores()) if camera.policy == "all" else 1
        classifier = stack.enter_context(_open(arguments, at_once))
        camera.wait_opened()
        sinks = [stack.enter_context(sink) for sink in _open_sinks(arguments, classifier.labels, camera)]
        show_message("{} on {}".format(classifier.model, classifier.backend))
        run = Run(classifier, camera, sinks)
        try:
            smoother = Smoother(arguments.smooth, arguments.margin) if arguments.smooth else None
            run.go(smoother, arguments.roi, arguments.rotation, arguments.frames)
        finally:
            show_message(run.summary())


def _password(path):
    return None if path is None else read_password(path)


def _warn_of_typed_passwords(arguments):
    for what, texts, variable, option in (
        ("the source", [arguments.source], CAMERA, "--password-file"),
        ("a sink", arguments.sink, MQTT, "--mqtt-password-file"),
    ):
        if any(learn(text) != text for text in texts):
            _log.warning(
                "the address of %s holds a password, and every user of this machine can read a command line in the "
                "process list: leave it out, and give it by the environment's %s or by %s",
                what,
                variable,
                option,
            )


def _open_sinks(arguments, labels, camera):
    from .sinks import open_sink
    from .sinks.printer import PrintSink

    if not arguments.quiet:
        yield PrintSink(_print_json if arguments.json else _print, arguments.json)
    every_frame = camera.policy == "all"
    password = _password(arguments.mqtt_password_file)
    for target in arguments.sink:
        yield open_sink(target, (camera.rate or _VIDEO_OF_IMAGES_FPS) if every_frame else None, password)
    if arguments.uncertain:
        from .sinks.uncertain import UncertainSink

        yield UncertainSink(
            arguments.uncertain,
            arguments.uncertain_below,
            arguments.uncertain_megabytes << 20,
            every_s=0.0 if every_frame else 1.0,
        )
    if arguments.live:
        from .sinks.live import LiveSink
        from .sinks.live_access import open_access

        names = ("token_file", "name", "open", "cert", "key")
        access = open_access(*(getattr(arguments, "live_" + name) for name in names))
        live = LiveSink(arguments.live, labels, arguments.bundle.name, access, arguments.source)
        # As it is: the token in it was made for whoever reads this.
        print(printable("live page: {}".format(live.invitation)), file=sys.stderr, flush=True)
        yield live


def _bench(arguments):
    from .benchmark import bench

    names = ("repeat", "warmup", "backend", "threads", "size")
    _write(arguments, bench(arguments.bundle, **{name: getattr(arguments, name) for name in names}))


def _doctor(arguments):
    from .doctor import doctor

    report = doctor(arguments.bundle)
    if arguments.json:
        _write(arguments, report)
    else:
        # It has colors of its own, and has escaped what it found.
        print(encodable(str(report), sys.stdout), flush=True)
    return 0 if report.passed else EdgeclfError.exit_code


COMMANDS = {
    "info": _info,
    "selftest": _selftest,
    "build": _build,
    "classify": _classify,
    "run": _run,
    "bench": _bench,
    "doctor": _doctor,
}


if __name__ == "__main__":
    leave(main())
