"""The ``run`` command of a service, and what it needs of this machine.

A service has another user, another working folder and another view of the files than the user who installs it.  So paths
become absolute, passwords become credentials, and what the service could not reach is refused or noted before it starts.
"""

import importlib.util
import os
import stat
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set, Tuple

from ...bundle.open_bundle import open_bundle
from ...capture.open_camera import find_camera
from ...classify.decision import allowed_indices
from ...classify.selection import candidates
from ...device.child_process import find_program
from ...device.credentials import read_password
from ...device.remedies import install
from ...errors import EdgeclfError, OptionError
from ...runners import backend_version
from ...sinks import MQTT_SINK, check_target
from ...sinks.live.server import page_address
from ...streaming.event_rules import parse_rule, rules_by_label
from ..run.cameras import FOR, cameras_of
from .config import ServiceConfig
from .passwords import refuse_passwords
from .rights import GROUPS, changeable, closed, is_below, is_group, may
from .unit import CREDENTIALS_SINCE, STATE, Credential, Unit
from .words import run_words

if TYPE_CHECKING:
    from argparse import Namespace

# Folders that ProtectHome= hides, and folders that PrivateTmp= replaces.
_HOMES, _TEMPORARY = ("/home", "/root", "/run/user"), ("/tmp", "/var/tmp")
_FIRST_FREE_PORT = 1024
# Options whose files may be readable by root only, with the names of their credentials.
_SECRET_FILES = {
    "password_file": "camera-password",
    "mqtt_password_file": "mqtt-password",
    "live_token_file": "live-token",
    "webhook_secret_file": "webhook-secret",
    "webhook_ca": "webhook-ca",
    "mqtt_ca": "mqtt-ca",
    "mqtt_cert": "mqtt-cert",
    "mqtt_key": "mqtt-key",
    "live_cert": "live-cert",
    "live_key": "live-key",
}
_LIBRARIES = ("numpy", "cv2", "onnxruntime", "openvino", "tensorrt", "paho")


class ServiceCommand:
    """The checked command of a service.

    arguments   arguments of install-service: those of run, and more
    name, user  of the service
    version     systemd's version; None: the latest

    notes       notes for the user, one sentence each

    Raises OptionError for an invalid option, and EdgeclfError for what a service cannot do.
    """

    def __init__(self, arguments: "Namespace", name: str, user: str, version: Optional[int]) -> None:
        self._arguments, self._name, self._user = arguments, name, user
        self._has_credentials = version is None or version >= CREDENTIALS_SINCE
        self.notes: List[str] = []
        self._values: Dict[str, object] = dict(vars(arguments))
        self._writes: List[str] = []
        self._made: Set[str] = set()  # options that the unit has, whether they are in a configuration file or not
        self._bundle = os.path.abspath(str(arguments.bundle))
        self._config = ServiceConfig(arguments.again)
        if self._config.path:
            self._refuse_home(self._config.path, "the configuration file")
            self.notes += self._config.notes(user)
        refuse_passwords(arguments)
        self._live = self._check_sources()
        self._check_bundle()
        self._place_outputs()
        self._place_secret_files()
        self._check_page()
        self._note_libraries()
        prints = arguments.json or (arguments.event and arguments.every is None)
        if not (prints or arguments.quiet):
            # A line for each frame would fill the journal.
            self._values["quiet"] = True
            self._made.add("quiet")
        actions = arguments.snapshots or arguments.clips or arguments.webhook or arguments.on_event
        if not (arguments.sink or arguments.live or arguments.uncertain or prints or actions):
            self.notes.append(
                "the results go nowhere: add --sink, --live or --uncertain, or --event or --json for the journal"
            )

    def unit(self) -> Unit:
        """Return the Unit."""
        paths = [self._bundle, *self._sources, _python(), *self._writes, *filter(None, [self._config.path])]
        words = run_words(self._config.beside(self._values, self._made))
        return Unit(
            self._name,
            (_python(), self._bundle, "run", *words, *self._own_words()),
            self._user,
            groups=tuple(filter(is_group, GROUPS)),
            network=self._needs_network(),
            after=("nvargus-daemon.service",) if self._is_pipeline() else (),
            finite=not self._live or self._arguments.frames is not None,
            # A pipeline needs the socket of nvargus-daemon, /tmp/argus_socket.
            private_tmp=not self._is_pipeline() and not any(is_below(path, _TEMPORARY) for path in paths),
            home="read-only" if is_below(_python(), _HOMES) else "yes",
            writes=tuple(self._writes),
            port=self._low_port(),
            prepare=_make_nodes(),
            reloads=self._config.path is not None,
        )

    def build_words(self) -> Tuple[str, ...]:
        """Return the command that builds the service's engines."""
        model = self._arguments.model
        return (_python(), self._bundle, "build", *(("--model", model) if model else ()))

    def uses_tensorrt(self) -> bool:
        """Return whether there are engines to build: the bundle has a model for TensorRT, and TensorRT is installed."""
        return any(backend == "tensorrt" for _, backend in self._pairs) and backend_version("tensorrt") is not None

    def _check_sources(self) -> bool:
        """Make the sources' paths absolute; returns whether all are live."""
        cameras = cameras_of(self._arguments)
        found = [self._checked_source(one) for one in cameras]
        self._sources = [source for source, _ in found]
        named = ["{}={}".format(one.camera, source) for one, source in zip(cameras, self._sources) if one.camera]
        self._values["source"] = named or self._sources[0]
        return all(live for _, live in found)

    def _checked_source(self, arguments: "Namespace") -> Tuple[str, bool]:
        """Return a camera's source, with an absolute path, and whether it is live."""
        source = str(arguments.source)
        if "://" not in source and not source.isdecimal():
            if self._config.has("source"):
                self._config.check_absolute(source, "the source")
            source = os.path.abspath(source)
            self._refuse_home(source, "the source")
        # Any text will do for the check; a longer one would be removed from every message.
        password = "x" if arguments.password_file else None
        size = (arguments.width, arguments.height, arguments.fps)
        options = (arguments.flip, arguments.policy, arguments.timeout, arguments.frozen)
        settings = {"format": arguments.format, "controls": dict(arguments.control or ())}
        settings["decode"] = arguments.decode
        found = find_camera(source, *size, *options, password=password, **settings)
        return source, not isinstance(found, list) and bool(found.live)

    def _own_words(self) -> List[object]:
        """Return the words of the options that are one camera's own."""
        words: List[object] = []
        for name, found in self._arguments.own:
            if "password_file" in vars(found):
                raise OptionError(
                    "--password-file after {0} {1} is not for a service: give one before {0}, for all cameras".format(
                        FOR, name
                    )
                )
        for name, found in self._config.own(self._arguments.own):
            words += [FOR, name, *run_words(vars(found))]
        return words

    def _check_bundle(self) -> None:
        self._refuse_home(self._bundle, "the bundle")
        bundle = open_bundle(self._bundle)
        self._pairs = candidates(bundle, self._arguments.model, self._arguments.backend)
        for one in cameras_of(self._arguments):
            allowed_indices(bundle.labels, one.allow, one.deny)
            rules_by_label([parse_rule(text) for text in one.event], bundle.labels)
        found = changeable(self._bundle)
        if found:
            self.notes.append(
                "users other than root can change {0}, and with it what the service runs: sudo chown -R root:root {1}; "
                "sudo chmod -R go-w {1}".format(found, self._bundle)
            )
        found = closed(self._bundle, self._user)
        if found:
            change = "-R a+rX " + self._bundle if is_below(found, (self._bundle,)) else "a+x " + found
            self.notes.append("{} cannot read {}: sudo chmod {}".format(self._user, found, change))

    def _refuse_home(self, path: str, what: str) -> None:
        if is_below(path, _HOMES):
            raise OptionError(
                "{} {} is in a user's home, which a service does not see (ProtectHome=yes): copy it to another folder, "
                "for example: sudo cp -r {} /opt/".format(what, path, path.rstrip("/"))
            )

    def _place_outputs(self) -> None:
        """Make the paths of outputs absolute; relative ones are below the service's own folder."""
        sinks = list(self._arguments.sink)
        for number, target in enumerate(sinks):
            if check_target(target) == MQTT_SINK:
                self._need_paho()
            else:
                sinks[number] = self._place_output(target)
                self._add_folder(os.path.dirname(sinks[number]))
        self._values["sink"] = sinks
        own = self._arguments.own
        on_line = self._config.own(own)
        self._place_mask(self._values, self._config.has("mask"))
        for number, (_, found) in enumerate(own):
            self._place_mask(vars(found), number < len(own) - len(on_line))
        if self._arguments.on_event and os.sep in self._arguments.on_event:
            if self._config.has("on_event"):
                self._config.check_absolute(self._arguments.on_event, "the program")
            program = self._values["on_event"] = os.path.abspath(self._arguments.on_event)
            self._refuse_home(program, "the program")
        for name in ("uncertain", "snapshots", "clips"):
            if getattr(self._arguments, name):
                folder = self._values[name] = self._place_output(getattr(self._arguments, name))
                self._add_folder(folder)

    def _place_mask(self, values: Dict[str, Any], is_in_file: bool) -> None:
        if values.get("mask"):
            if is_in_file:
                self._config.check_absolute(values["mask"], "the mask")
            values["mask"] = os.path.abspath(values["mask"])
            self._refuse_home(values["mask"], "the mask")

    def _need_paho(self) -> None:
        if importlib.util.find_spec("paho") is None:
            self._missing("MQTT needs paho-mqtt, which is not installed: " + install("paho-mqtt"))

    def _missing(self, text: str) -> None:
        """Report something that must exist before the service starts: a note with --dry-run, otherwise an error."""
        if not self._arguments.dry_run:
            raise EdgeclfError(text)
        if text not in self.notes:
            self.notes.append(text)

    def _place_output(self, path: str) -> str:
        if os.path.isabs(path):
            self._refuse_home(path, "the output")
            return os.path.normpath(path)
        placed = os.path.normpath(os.path.join(STATE, self._name, path))
        self.notes.append("{} will be {}".format(path, placed))
        return placed

    def _add_folder(self, folder: str) -> None:
        if is_below(folder, (os.path.join(STATE, self._name),)) or folder in self._writes:
            return
        self._writes.append(folder)
        if os.path.isdir(folder) and not may(folder, self._user, stat.S_IWUSR):
            self.notes.append("{0} cannot write to {1}: sudo chown {0} {1}".format(self._user, folder))

    def _place_secret_files(self) -> None:
        for dest, name in _SECRET_FILES.items():
            if self._values[dest] is None:
                continue
            path = os.path.abspath(str(self._values[dest]))
            self._check_secret_file(path, is_password=dest.endswith(("password_file", "secret_file")))
            self._values[dest] = Credential(name, path) if self._has_credentials else path
            self._made.add(dest)
            if not self._has_credentials:
                self._refuse_home(path, "the file")
                self.notes.append(
                    "this systemd has no LoadCredential= (added in {}), so {} itself must be able to read {}: "
                    "sudo chgrp {} {}; sudo chmod 640 {}".format(
                        CREDENTIALS_SINCE, self._user, path, self._user, path, path
                    )
                )

    def _check_secret_file(self, path: str, is_password: bool) -> None:
        if not os.access(path, os.R_OK):
            reason = "cannot be read" if os.path.exists(path) else "does not exist"
            self._missing("{} {}: create it before the service, readable by root only".format(path, reason))
        elif is_password:
            read_password(path)

    def _check_page(self) -> None:
        if not self._arguments.live:
            return
        host, _ = page_address(self._arguments.live)
        if not _is_loopback(host) and not (self._arguments.live_token_file or self._arguments.live_open):
            self.notes.append(
                "the live page gets a new token at each start, which is printed to the journal; --live-token-file keeps "
                "one"
            )

    def _note_libraries(self) -> None:
        """Note libraries that are installed only for the installing user."""
        if is_below(_python(), _HOMES):
            self.notes.append(
                "{} is in a user's home: the service can use it only if {} may read that".format(_python(), self._user)
            )
            return
        for name in _LIBRARIES:
            spec = importlib.util.find_spec(name)
            places = [spec.origin or "", *(spec.submodule_search_locations or [])] if spec else []
            if any(is_below(place, _HOMES) for place in places if os.path.isabs(place)):
                self.notes.append("{} is in a user's home, where the service does not find it".format(name))

    def _is_pipeline(self) -> bool:
        return any(source.lower().startswith(("csi://", "gst://")) for source in self._sources)

    def _needs_network(self) -> bool:
        sources, live = [source.lower() for source in self._sources], self._arguments.live
        return (
            any(source.startswith(("rtsp", "http")) for source in sources)
            or any(source.startswith("gst://") and "://" in source[len("gst://") :] for source in sources)
            or any(check_target(target) == MQTT_SINK for target in self._arguments.sink)
            or bool(self._arguments.webhook)
            or bool(live and not _is_loopback(page_address(live)[0]))
        )

    def _low_port(self) -> Optional[int]:
        port: int = page_address(self._arguments.live)[1] if self._arguments.live else 0
        return port if 0 < port < _FIRST_FREE_PORT else None


def _python() -> str:
    if not sys.executable:
        raise EdgeclfError("this Python does not know its own path; start it by its absolute path")
    return os.path.abspath(sys.executable)


def _make_nodes() -> Tuple[str, ...]:
    """Return the command that makes the device nodes of an NVIDIA GPU on a PC: the driver's helper, which must run as root."""
    program = find_program("nvidia-modprobe")
    return (program, "-u", "-c=0") if program else ()


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "::1" or host.startswith("127.")
