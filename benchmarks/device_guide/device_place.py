"""A place where the commands of deploy/README.md run word for word: the hosts, files and programs that they name.

Everything is in a network and a mount namespace of its own (``ISOLATED``): 10.0.0.7, 10.0.0.8 and 10.0.0.9 are cameras
that ask for SECRET, ``broker`` is a mosquitto, www.example.com an nginx with the page's own lines, /dev/video0 a camera
where tests/support/v4l2_camera.c is preloaded, and /etc, /opt and /dev are copies in memory.  Needs root and Debian's
util-linux, iproute2, gcc, curl, openssl, mosquitto, nginx-light and GStreamer's RTSP server for Python.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from device_case import TOKEN

HERE = Path(__file__).resolve().parent
RUNTIME_TESTS = HERE.parents[1] / "tests" / "runtime"
sys.path.insert(0, str(HERE.parents[1]))

from tests.runtime.sinks.test_live_proxy import CONFIG  # noqa: E402
from tests.support.cameras import SYSTEM_PYTHON, has_rtsp_server  # noqa: E402
from tests.support.certificates import Signer  # noqa: E402
from tests.support.http_servers import HttpServer, basic, part, response, stream_head  # noqa: E402
from tests.support.video_files import avi  # noqa: E402

ISOLATED = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
PROGRAMS = {"unshare": "util-linux", "ip": "iproute2", "gcc": "gcc", "curl": "curl", "openssl": "openssl"}
PROGRAMS.update({"mosquitto": "mosquitto", "nginx": "nginx-light", "gst-launch-1.0": "gstreamer1.0-tools"})
# Of the letters that an address or a pipeline would take for its own.
SECRET = "s3cret/with#odd@signs% \"'!"
MEMORY = "/run"
HOSTS = ("127.0.0.1 localhost device www.example.com camera.example.com", "10.0.0.6 broker")
NODES = ("null", "zero", "full", "random", "urandom", "tty", "fd", "stdin", "stdout", "stderr", "pts", "ptmx", "shm")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def reason_to_skip() -> str:
    """Return the reason why there can be no such place here, or an empty text."""
    if os.getuid() != 0:
        return "namespaces and devices need root"
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)]
    if not has_rtsp_server():
        missing.append("gir1.2-gst-rtsp-server-1.0")
    return f"not installed: sudo apt-get install {' '.join(missing)}" if missing else ""


def make_place(nginx_lines: str) -> contextlib.ExitStack:
    """Make it in this process's namespaces and start what is asked there; closing what is returned ends that."""
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", MEMORY])
    subprocess.check_call(["hostname", "device"])
    for name in ("etc", "opt"):
        _overlay(name)
    _devices()
    subprocess.check_call(["ip", "link", "set", "lo", "up"])
    for number in range(6, 10):
        subprocess.check_call(["ip", "addr", "add", f"10.0.0.{number}/32", "dev", "lo"])
    Path("/etc/hosts").write_text("\n".join(HOSTS) + "\n")
    for name, text in {"camera": SECRET, "token": TOKEN}.items():
        Path("/etc/edgeclf").mkdir(exist_ok=True)
        Path("/etc/edgeclf", name).write_text(text + "\n")
        Path("/etc/edgeclf", name).chmod(0o600)
    _sudo()
    with contextlib.ExitStack() as stack:
        for start in (_rtsp_cameras, _http_camera, _broker):
            stack.enter_context(contextlib.contextmanager(start)())
        stack.enter_context(_proxy(nginx_lines))
        return stack.pop_all()
    raise AssertionError


def _overlay(name: str) -> None:
    """Put a copy in memory in the place of a folder."""
    upper, work = (Path(MEMORY, f"{name}-{kind}") for kind in ("upper", "work"))
    upper.mkdir()
    work.mkdir()
    options = f"lowerdir=/{name},upperdir={upper},workdir={work}"
    subprocess.check_call(["mount", "-t", "overlay", "-o", options, "overlay", f"/{name}"])


def _devices() -> None:
    """Put a /dev in the place of the machine's that has the node of a USB camera, and two links to it."""
    new = Path(MEMORY, "dev")
    new.mkdir()
    subprocess.check_call(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(new)])
    for name in NODES:
        there = Path("/dev", name)
        if there.is_symlink():
            (new / name).symlink_to(os.readlink(there))
        elif there.is_dir():
            (new / name).mkdir()
            subprocess.check_call(["mount", "--rbind", str(there), str(new / name)])
        else:
            os.mknod(new / name, 0o666 | 0o020000, there.stat().st_rdev)
            (new / name).chmod(0o666)
    os.mknod(new / "video0", 0o660 | 0o020000, os.makedev(81, 0))
    for folder in ("by-id", "by-path"):
        (new / "v4l" / folder).mkdir(parents=True)
        (new / "v4l" / folder / "usb-camera-video-index0").symlink_to("../../video0")
    (new / "line4").symlink_to("video0")
    subprocess.check_call(["mount", "--move", str(new), "/dev"])


def usb_camera(folder: Path) -> dict[str, str]:
    """Return the variables that put a camera behind /dev/video0."""
    library = folder / "v4l2_camera.so"
    source = str(RUNTIME_TESTS / "v4l2_camera.c")
    subprocess.check_call(["gcc", "-shared", "-fPIC", "-o", str(library), source, "-ldl"])
    cv2.imwrite(str(folder / "usb.jpg"), np.full((720, 1280, 3), 99, np.uint8))
    return {"LD_PRELOAD": str(library), "V4L_TEST_JPEG": str(folder / "usb.jpg")}


def _sudo() -> None:
    """Have a sudo: the program is root already."""
    program = Path(MEMORY, "sudo")
    program.write_text('#!/bin/sh\nexec "$@"\n')
    program.chmod(0o755)


def _rtsp_cameras() -> Iterator[None]:
    cameras = (("10.0.0.7", "/stream1", "admin", "digest"), ("10.0.0.9", "/x", "me", "basic"))
    with contextlib.ExitStack() as stack:
        for address, path, user, method in cameras:
            camera = {"ADDRESS": address, "PATH": path, "USER": user, "SECRET": SECRET, "AUTH": method}
            environment = {"PATH": PATH, **{f"CAMERA_{name}": value for name, value in camera.items()}}
            command = [SYSTEM_PYTHON, str(RUNTIME_TESTS / "rtsp_server.py"), "554", "640", "480", "15"]
            stack.enter_context(_running(command, lambda address=address: _answers(address, 554), environment))
        yield


def _http_camera() -> Iterator[None]:
    """Serve 10.0.0.8: a password in the address, or by Basic; a stream, an image, a video, a redirect."""
    from urllib.parse import parse_qs, urlsplit

    pictures = [
        cv2.imencode(".jpg", np.full((480, 640, 3), shade, np.uint8))[1].tobytes() for shade in range(0, 250, 9)
    ]

    def stream() -> Iterator[bytes]:
        yield stream_head()
        for number in range(100000):
            yield part(pictures[number % len(pictures)])
            time.sleep(1 / 15)

    def answer(path: str, headers: dict[str, str]) -> bytes | Iterator[bytes]:
        query = parse_qs(urlsplit(path).query)
        right = query.get("pwd") == [SECRET] or headers.get("authorization") == basic("admin", SECRET)
        if path == "/video.mp4":
            return response(Path(MEMORY, "video.mp4").read_bytes(), "video/mp4")
        if path.startswith(("/video", "/stream")) and not right:
            return response(status="401 Unauthorized", WWW_Authenticate='Basic realm="camera"')
        if path == "/moved":
            return response(status="302 Found", Location="http://10.0.0.8/elsewhere")
        if path == "/picture.jpg":
            return response(pictures[0])
        return stream() if path.startswith(("/video", "/stream")) else response(status="404 Not Found")

    with HttpServer(answer, ("10.0.0.8", 80)):
        yield


def _broker() -> Iterator[None]:
    """Run mosquitto: 1883 for everybody, 1884 for admin, 8883 for whoever has a certificate of our authority."""
    folder = Path(MEMORY, "broker")
    folder.mkdir()
    authority = Signer(folder, "authority")
    server, client = authority.sign("server", "server"), authority.sign("client", "client")
    for name, path in {"ca.pem": authority.certificate, "mqtt.pem": client.chain, "mqtt.key": client.key}.items():
        shutil.copy(path, Path("/etc/edgeclf", name))
    for name, path in {"live.pem": server.certificate, "live.key": server.key}.items():
        shutil.copy(path, Path("/etc/edgeclf", name))
    subprocess.check_call(["mosquitto_passwd", "-b", "-c", str(folder / "users"), "admin", SECRET])
    lines = ["per_listener_settings true", "user root", "listener 1883 10.0.0.6", "allow_anonymous true"]
    lines += ["listener 1884 10.0.0.6", f"password_file {folder}/users", "listener 8883 10.0.0.6"]
    lines += ["allow_anonymous true", "require_certificate true", f"cafile {authority.certificate}"]
    lines += [f"certfile {server.chain}", f"keyfile {server.key}"]
    (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
    with _running(["mosquitto", "-c", str(folder / "mosquitto.conf")], lambda: _answers("10.0.0.6", 8883)):
        yield


@contextlib.contextmanager
def _proxy(lines: str) -> Iterator[None]:
    folder = Path(MEMORY, "nginx")
    folder.mkdir()
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, page=8080, port=80, lines=lines))
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with _running(command, lambda: _answers("127.0.0.1", 80)):
        yield


@contextlib.contextmanager
def _running(
    command: list[str], ready: Callable[[], bool], environment: dict[str, str] | None = None
) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    environment = environment or {"PATH": PATH}
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment) as process:
        try:
            end = time.monotonic() + 30
            while not ready():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"{command[0]} did not start")
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def _answers(host: str, port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def fill(folder: Path, bundle: Path) -> None:
    """Put the files that the page's commands name into a folder: pets.edge, video.mp4, photos/, cat.jpg and others."""
    shutil.copytree(bundle, folder / "pets.edge")
    images = [cv2.imread(str(path)) for path in sorted((bundle / "golden").glob("*.png"))]
    (folder / "photos" / "in it").mkdir(parents=True)
    for name, image in zip(("frame2.jpg", "frame10.jpg", "in it/deep.jpg"), images, strict=False):
        cv2.imwrite(str(folder / "photos" / name), image)
    cv2.imwrite(str(folder / "cat.jpg"), images[0])
    cv2.imwrite(str(folder / "mask.png"), np.full(images[0].shape, 255, np.uint8))
    cv2.imwrite(str(folder / "shot[1].png"), images[0])
    video = "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,width=640,height=480,framerate=15/1 ! "
    video += (
        "x264enc key-int-max=15 ! video/x-h264,profile=baseline ! mp4mux faststart=true ! filesink location=video.mp4"
    )
    subprocess.check_call(["gst-launch-1.0", "-q", *video.split()], cwd=folder, env={"PATH": PATH})
    shutil.copy(folder / "video.mp4", MEMORY)  # for the camera that serves it
    for name in ("a:b.mp4", "-x.avi"):
        shutil.copy(folder / "video.mp4", folder / name)
    (folder / "cut.mp4").write_bytes((folder / "video.mp4").read_bytes()[: -(folder / "video.mp4").stat().st_size // 3])
    for damaged, name in ((2, "scratched.avi"), (5, "damaged.avi")):
        _damage(avi(folder / name, 100), damaged)


def _damage(video: Path, count: int) -> None:
    """Overwrite so many of a video's JPEG frames."""
    data = bytearray(video.read_bytes())
    starts = [at.start() for at in re.finditer(b"\xff\xd8\xff", data)]
    for number in range(10, 10 + 3 * count, 3):
        start, end = starts[number : number + 2]
        data[start : end - 8] = bytes(end - 8 - start)  # 8: the next chunk's header
    video.write_bytes(data)
