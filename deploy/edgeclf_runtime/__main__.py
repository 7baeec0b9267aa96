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
import functools
import json
import logging

from .arguments import make_parser, names_apart
from .credentials import CAMERA, MQTT, hide_arguments, read_password, take_environment
from .errors import BackendError, EdgeclfError, GateError, ImageError
from .logs import log_to_stderr
from .redaction import learn
from .stdio import open_missing, silence, write_stderr
from .stopping import Terminated, leave, stoppable
from .terminal import (
    encodable,
    printable,
    printable_json,
    show_exception,
    show_message,
)

_log = logging.getLogger(__name__)

INTERRUPTED = 130
_VERIFY_S = 600.0
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
    return Classifier.open(
        arguments.bundle,
        **{name: getattr(arguments, name) for name in names},
        at_once=at_once,
        show_tuning=show_message,
    )


def _classify(arguments):
    from .images import each_image
    from .result import find_origin

    code = 0
    find_origin(device=arguments.device_name)  # a wrong name shows before a model is opened
    with _open(arguments) as classifier:
        for path in each_image(arguments.images):
            try:
                if isinstance(path, ImageError):
                    raise path
                result = classifier.classify(path, arguments.roi, arguments.rotation)
            except ImageError as error:
                # One line, whatever the file's name is.
                show_message(printable("error: {}".format(error)))
                code = error.exit_code
                continue
            if arguments.json:
                origin = find_origin(classifier.bundle_id, path, arguments.device_name)
                _print_json(json.dumps(dict({"image": path}, **result.to_dict(), **origin.to_dict())))
            else:
                _print("{}  {}".format(path, result))
    return code


def _run(arguments):
    from .bundle import open_bundle
    from .camera import open_camera
    from .machine import cores
    from .notify import Notifier, is_service, speaking
    from .result import find_origin
    from .run import Run
    from .sinks.late import open_late
    from .smoothing import Smoother

    _warn_of_typed_passwords(arguments)
    find_origin(device=arguments.device_name)  # a wrong name shows before a camera and a model are opened
    wait = is_service() if arguments.wait is None else arguments.wait
    with contextlib.ExitStack() as stack:
        notifier = stack.enter_context(speaking(Notifier()))
        with notifier.busy(_VERIFY_S, "verifying the bundle"):
            arguments.bundle = open_bundle(arguments.bundle)
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
                format=arguments.format,
                controls=dict(arguments.control or ()),
            )
        )
        at_once = (arguments.threads or cores()) if camera.policy == "all" else 1
        classifier = stack.enter_context(_open(arguments, at_once))
        if not (wait and camera.comes_back):
            camera.wait_opened()
            if camera.mode and camera.as_asked:  # else the camera has warned
                show_message("{}: {}".format(camera.name, camera.mode))
        origin = find_origin(classifier.bundle_id, camera.name, arguments.device_name)
        openers = _sinks(arguments, classifier.labels, camera, origin)
        outputs = stack.enter_context(contextlib.ExitStack())
        sinks = [outputs.enter_context(open_late(*opener) if wait else opener[1]()) for opener in openers]
        show_message("{} on {}".format(classifier.model, classifier.backend))
        run = Run(classifier, camera, sinks, notifier)
        try:
            smoother = Smoother(arguments.smooth, arguments.margin) if arguments.smooth else None
            with outputs:  # closed before the summary: it counts what they could not deliver
                run.go(smoother, arguments.roi, arguments.rotation, arguments.frames, origin)
        finally:
            with contextlib.suppress(OSError):  # of a terminal that was closed
                show_message(run.summary())


def _password(path):
    return None if path is None else read_password(path)


def _warn_of_typed_passwords(arguments):
    for what, texts, variable, option in (
        # A file may be called "user:word@host.avi".
        ("the source", [] if os.path.lexists(arguments.source) else [arguments.source], CAMERA, "--password-file"),
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


def _sinks(arguments, labels, camera, origin):
    """Yield the name of each sink, and the function that opens it."""
    from .addresses import shown_uri
    from .frames import IMAGES_FPS
    from .sinks import open_sink
    from .sinks.printer import PrintSink

    if not arguments.quiet:
        yield "stdout", lambda: PrintSink(_print_json if arguments.json else _print, arguments.json)
    every_frame = camera.policy == "all"
    fps = (camera.rate or IMAGES_FPS) if every_frame else None
    password = _password(arguments.mqtt_password_file)
    tls = (arguments.mqtt_ca, arguments.mqtt_cert, arguments.mqtt_key)
    for target in arguments.sink:
        yield shown_uri(target), functools.partial(open_sink, target, fps, password, origin, every_frame, tls)
    if arguments.uncertain:
        yield arguments.uncertain, functools.partial(_open_uncertain, arguments, every_frame)
    if arguments.live:
        from .sinks.live_access import open_access

        names = ("token_file", "name", "open", "cert", "key", "proxy")
        access = open_access(*(getattr(arguments, "live_" + name) for name in names))
        yield "the live page", functools.partial(_open_live, arguments, labels, access)


def _open_uncertain(arguments, every_frame):
    from .sinks.uncertain import UncertainSink

    max_bytes, every_s = arguments.uncertain_megabytes << 20, 0.0 if every_frame else 1.0
    return UncertainSink(arguments.uncertain, arguments.uncertain_below, max_bytes, every_s, wait=every_frame)


def _open_live(arguments, labels, access):
    from .sinks.live import LiveSink

    live = LiveSink(arguments.live, labels, arguments.bundle.name, access, arguments.source)
    # As it is: the token in it was made for whoever reads this.
    write_stderr(printable("live page: {}".format(live.invitation)) + "\n")
    return live


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


def _install_service(arguments):
    from .install_service import install, plan_service

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
    from .install_service import service_name, uninstall
    from .service_unit import CACHE, STATE

    name = service_name(arguments.service_name, arguments.bundle)
    commands = uninstall(name, arguments.dry_run)
    if arguments.dry_run:
        _print("\n".join(commands), newline="\n")
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
