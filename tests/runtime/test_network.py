"""No command looks up, sends or writes anything unasked, on any backend; the kernel watches."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeclf_runtime.runners import backend_version
from edgeclf_runtime.runners.openvino import without_telemetry
from tests.support.cameras import free_port
from tests.support.netns import assert_quiet, observe
from tests.support.pictures import encode, noise

pytestmark = pytest.mark.slow

SUPPORT = Path(__file__).parents[1] / "support"
BACKENDS = ("onnxruntime", "openvino", "opencv")
# Reports are sent with a delay; ONNX Runtime's took 45 seconds.
LONG_S = 65
OFFENSES = """
import os, socket, sys
open(os.path.expanduser("~/.id"), "w").close()
try:
    socket.create_connection(("telemetry.example", 443), timeout=0.2)
except OSError:
    pass
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"it", ("203.0.113.9", 4000))
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"it", ("2001:db8:9::9", 4001))
"""
SESSION = """
import sys, time
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
time.sleep(float(sys.argv[2]))
"""
PROGRAM = """
import sys
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.selftest import selftest

assert selftest(sys.argv[1]).passed
with Classifier.open(sys.argv[1]) as classifier, open_camera("test://") as camera:
    items = classifier.stream(camera)
    assert [next(items).frame.number for _ in range(3)]
"""


def version_of(backend):
    """A backend's version here as numbers, () if it is missing."""
    return tuple(int(part) for part in (backend_version(backend) or "").split()[0:1] for part in part.split(".")[:2])


def with_reports():
    """Skip if this machine's ONNX Runtime has no telemetry anyway."""
    if version_of("onnxruntime") < (1, 29):
        pytest.skip("only ONNX Runtime from 1.29 on reports")


@pytest.fixture
def photo(tmp_path):
    (tmp_path / "photo.png").write_bytes(encode(".png", noise(64, 48)))
    return tmp_path / "photo.png"


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 16))
    for number in range(5):
        writer.write(np.full((16, 32, 3), number * 40, np.uint8))
    writer.release()
    return tmp_path / "video.avi"


def test_every_offense_of_a_command_is_seen(tmp_path):
    seen = observe([sys.executable, "-c", OFFENSES], tmp_path)
    assert set(seen.names) == {"telemetry.example"}
    assert {"tcp 198.51.100.7:443", "udp 203.0.113.9:4000", "udp [2001:db8:9::9]:4001"} <= set(seen.packets)
    assert seen.files == ["home/.id"]


def test_onnxruntimes_own_reports_would_be_seen_at_once_by_the_id_that_it_writes(bundle, tmp_path):
    with_reports()
    seen = observe([sys.executable, "-c", SESSION, bundle / "model.fp32.onnx", "0"], tmp_path)
    assert any(name.endswith("/.onnxruntime/deviceid") for name in seen.files)


def test_openvinos_own_reports_would_be_seen_by_the_id_that_it_writes(tmp_path):
    pytest.importorskip("openvino_telemetry", reason="the package openvino-telemetry is not installed")
    seen = observe([sys.executable, "-c", "import openvino"], tmp_path)
    assert "home/intel/openvino_ga_cid" in seen.files


@pytest.mark.parametrize("name", ["info", "selftest", "doctor", "build"])
def test_a_command_sends_nothing(bundle, tmp_path, name):
    # Without TensorRT there is nothing to build, and doctor reports a machine without a camera.
    assert_quiet(observe([sys.executable, bundle, name], tmp_path), {"build": (0, 1), "doctor": (0, 1)}.get(name, (0,)))


def test_help_sends_nothing(bundle, tmp_path):
    assert_quiet(observe([sys.executable, bundle, "--help"], tmp_path))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_label_is_found_without_the_network(bundle, photo, tmp_path, backend):
    if not version_of(backend) and backend != "opencv":
        pytest.skip(f"{backend} is not installed")
    seen = observe([sys.executable, bundle, "classify", "--backend", backend, photo], tmp_path)
    assert_quiet(seen)
    assert str(photo) in seen.out


@pytest.mark.parametrize(
    "command", [["classify", "--model", "fp32", "--tune"], ["bench", "--repeat", "3", "--warmup", "1"]]
)
def test_measuring_every_backend_sends_nothing(bundle, photo, tmp_path, command):
    arguments = command + [photo] * (command[0] == "classify")
    assert_quiet(observe([sys.executable, bundle, *arguments], tmp_path))


def test_a_video_with_every_file_that_can_be_written_sends_nothing(bundle, video, tmp_path):
    sinks = [
        "--sink",
        "it.csv",
        "--sink",
        "it.jsonl",
        "--sink",
        "it.mp4",
        "--uncertain",
        "kept",
        "--uncertain-below",
        "1",
    ]
    live = ["--live", str(free_port())]
    seen = observe([sys.executable, bundle, "run", "--source", video, *sinks, *live], tmp_path)
    assert_quiet(seen)
    assert {"cwd/it.csv", "cwd/it.jsonl", "cwd/it.mp4"} <= set(seen.files)


def test_a_run_connects_only_to_its_network_camera(bundle, tmp_path):
    port = free_port()
    server = "{} {} {} 64 48 30".format(sys.executable, SUPPORT / "mjpeg_server.py", port)
    run = f"{sys.executable} {bundle} run --frames 3 --source http://localhost:{port}/camera.mjpg"
    script = f"{server} > /dev/null & {run}; code=$?; kill $!; wait $!; exit $code"
    seen = observe(["sh", "-c", script], tmp_path)
    assert_quiet(seen)
    assert len(seen.out.splitlines()) == 3


def test_the_name_of_a_camera_is_the_only_one_that_is_looked_up(bundle, tmp_path):
    run = [sys.executable, bundle, "run", "--source", "http://camera.example/it.mjpg"]
    seen = observe(["timeout", "6", *run], tmp_path)
    assert set(seen.names) == {"camera.example"}
    assert set(seen.packets) <= {"tcp 198.51.100.7:80", "tcp [2001:db8::7]:80"}
    assert seen.packets


def test_a_video_file_that_names_another_host_leads_nowhere(bundle, tmp_path):
    # The zero byte makes the list look like a video.
    (tmp_path / "video.mp4").write_bytes(b"#EXTM3U\n#\0\n#EXTINF:9,\nhttp://other.example/it.ts\n#EXT-X-ENDLIST\n")
    seen = observe([sys.executable, bundle, "run", "--source", tmp_path / "video.mp4"], tmp_path)
    assert_quiet(seen, (1,))
    assert "is an HLS or M3U playlist" in seen.err


def test_a_program_that_uses_the_runtime_sends_nothing(bundle, tmp_path):
    assert_quiet(observe([sys.executable, "-c", PROGRAM, bundle], tmp_path, {"PYTHONPATH": str(bundle)}))


def test_an_environment_that_enables_telemetry_changes_nothing(bundle, photo, tmp_path):
    with_reports()
    asked = {"ORT_DISABLE_TELEMETRY": "0"}
    command = [sys.executable, bundle, "classify", "--backend", "onnxruntime", photo]
    assert_quiet(observe(command, tmp_path, asked))


def test_openvinos_telemetry_is_hidden_only_from_openvino():
    package = pytest.importorskip("openvino_telemetry", reason="the package openvino-telemetry is not installed")
    with without_telemetry(), pytest.raises(ImportError):
        from openvino_telemetry.backend import backend_ga4  # noqa: F401
    assert sys.modules["openvino_telemetry"] is package
    assert "openvino_telemetry.backend" in sys.modules


def test_a_long_run_sends_nothing_while_onnxruntime_by_itself_reports_after_a_time(bundle, tmp_path):
    with_reports()
    frames = ["run", "--quiet", "--source", "test://", "--frames", str(LONG_S * 30), "--backend"]
    commands = {backend: [sys.executable, bundle, *frames, backend] for backend in BACKENDS if version_of(backend)}
    commands["control"] = [sys.executable, "-c", SESSION, bundle / "model.fp32.onnx", str(LONG_S)]
    with ThreadPoolExecutor(len(commands)) as pool:
        running = {name: pool.submit(observe, command, tmp_path / name) for name, command in commands.items()}
    assert any(name.endswith(".microsoft.com") for name in running.pop("control").result().names)
    for seen in running.values():
        assert_quiet(seen.result())
