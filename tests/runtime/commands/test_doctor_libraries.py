import os
import re
import sys

import pytest

from edgeclf_runtime.commands.doctor import libraries
from edgeclf_runtime.commands.doctor.checks import ask, run
from edgeclf_runtime.commands.doctor.libraries import (
    check_bundle,
    check_cuda,
    check_numpy,
    check_onnxruntime,
    check_opencv,
    check_openvino,
    check_tensorrt,
)
from tests.support.boards import nano, write
from tests.support.processes import ends
from tests.support.sealing import NONE_ALLOWED, flip_byte, reseal, spoil_int8


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Put a library of that name and source before the real one: library("numpy", "raise ...")."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))

    def put(name, source):
        write(folder, {f"{name}.py": source})

    return put


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a program of that name before the real one: command("gst-inspect-1.0", "exit 1")."""
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def put(name, script):
        write(folder, {name: "#!/bin/sh\n" + script + "\n"})
        (folder / name).chmod(0o755)

    return put


def test_a_numpy_that_dies_of_an_illegal_instruction_is_survived_and_known(library):
    library("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    check = check_numpy()
    assert (check.status, check.found) == ("fail", "import numpy: died of SIGILL")
    assert "numpy==1.19.4" in check.fix
    assert "OPENBLAS_CORETYPE=ARMV8" in check.fix


@pytest.mark.slow
def test_a_library_that_is_missing_fails_with_the_command_that_installs_it(library):
    library("numpy", "raise ImportError('No module named numpy')")
    check = check_numpy()
    assert (check.status, check.found) == ("fail", "import numpy: No module named numpy")
    assert " install " in check.fix
    library("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    check = check_opencv()[0]
    assert (check.status, "libGL.so.1" in check.found) == ("fail", True)
    assert "apt-get install -y libgl1" in check.fix
    library("cv2", "raise ImportError('numpy.core.multiarray failed to import')")
    assert "'numpy<2'" in check_opencv()[0].fix
    library("onnxruntime", "raise ImportError('No module named onnxruntime')")
    check = check_onnxruntime()
    assert (check.status, "-m pip install onnxruntime" in check.fix) == ("warning", True)


VNNI, PLAIN = "flags\t\t: fpu avx2 avx512_vnni\n", "flags\t\t: fpu avx2\n"


@pytest.mark.parametrize(
    ("machine", "flags", "version", "status", "found"),
    [
        (
            "x86_64",
            VNNI,
            None,
            "warning",
            "not installed; probably the fastest backend here for INT8, since this processor",
        ),
        ("x86_64", PLAIN, None, "ok", "not installed; it is faster than onnxruntime with some networks"),
        ("x86_64", VNNI, "2026.1", "ok", "2026.1"),
        ("aarch64", "", None, "ok", "not needed: it is for x86 processors"),
    ],
)
def test_openvino_is_worth_installing_on_an_x86_processor_with_int8_instructions(
    monkeypatch, tmp_path, machine, flags, version, status, found
):
    write(tmp_path, {"proc/cpuinfo": "processor : 0\n" + flags})
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(libraries, "backend_version", lambda name: version)
    monkeypatch.setattr(libraries, "OLDEST_PYTHON", (3, 6))
    check = check_openvino(str(tmp_path))
    assert (check.status, check.found.startswith(found)) == (status, True)
    assert ("pip install openvino" in check.fix) == (status == "warning")


def test_onnxruntime_is_worth_installing_on_arm(library, monkeypatch):
    library("onnxruntime", "raise ImportError('No module named onnxruntime')")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "on Arm it is faster than OpenCV as a rule" in check_onnxruntime().found


@pytest.mark.slow
def test_a_library_that_hangs_or_leaves_is_survived(library):
    library("onnxruntime", "import time; time.sleep(600)")
    answer = ask("import onnxruntime", timeout_s=0.5)
    assert (answer.hung, answer.failure) == (True, "no answer in 0.5 seconds")
    library("onnxruntime", "import os; os._exit(7)")
    assert check_onnxruntime().found == "import onnxruntime: ended with status 7"
    library("onnxruntime", "import sys; print('license expired'); sys.exit(7)")
    assert check_onnxruntime().found == "import onnxruntime: ended with status 7: license expired"


def test_a_library_that_talks_does_not_disturb_the_answer(library):
    library("tensorrt", "import sys; print('hello'); sys.stderr.write('W: lazy loading'); __version__ = '8.2.1.8'")
    check = check_tensorrt()
    assert (check.status, check.found) == ("ok", "8.2.1.8, as in JetPack 4.6.1 to 4.6.6")


@pytest.mark.parametrize(
    ("version", "jetpack"), [("8.5.2.2", "5.1"), ("10.3.0", "6.1 or 6.2"), ("10.13.3.9", "7.0 or 7.1"), ("9.9", None)]
)
def test_tensorrt_is_shown_with_its_jetpack(library, version, jetpack):
    library("tensorrt", f"__version__ = '{version}'")
    assert check_tensorrt().found == (f"{version}, as in JetPack {jetpack}" if jetpack else version)


def test_a_csi_camera_is_of_no_use_without_a_jetson(tmp_path):
    assert check_opencv(str(tmp_path))[1].found.startswith("not a Jetson")


def test_a_csi_camera_needs_an_opencv_with_gstreamer(tmp_path, library):
    library(
        "cv2",
        "__version__ = '4.1.1'\ndef getBuildInformation(): return 'Video I/O:\\n GStreamer: NO\\n FFMPEG: YES\\n'",
    )
    opencv, csi = check_opencv(str(nano(tmp_path)))
    assert opencv.found == "4.1.1, without GStreamer, with FFmpeg"
    assert (csi.status, csi.found) == ("warning", "csi:// needs an OpenCV with GStreamer")
    assert "apt-get install -y libopencv-python" in csi.fix


@pytest.mark.slow
def test_a_csi_camera_needs_its_plugin_and_its_daemon(tmp_path, library, command):
    library(
        "cv2", "__version__ = '4.1.1'\ndef getBuildInformation(): return ' GStreamer: YES (1.14.5)\\n FFMPEG: YES\\n'"
    )
    root = str(nano(tmp_path))
    command("gst-inspect-1.0", "exit 1")
    assert check_opencv(root)[1].found == "GStreamer has no nvarguscamerasrc"
    command("gst-inspect-1.0", 'test "$1" = nvarguscamerasrc')
    assert "nvargus-daemon is not running" in check_opencv(root)[1].found
    write(tmp_path, {"tmp/argus_socket": ""})
    assert check_opencv(root)[1].status == "ok"


@pytest.mark.slow
def test_a_gst_inspect_that_hangs_is_unknown(tmp_path, library, command, monkeypatch):
    library(
        "cv2", "__version__ = '4.1.1'\ndef getBuildInformation(): return ' GStreamer: YES (1.14.5)\\n FFMPEG: YES\\n'"
    )
    command("gst-inspect-1.0", "sleep 600")
    monkeypatch.setattr(libraries, "GST_TIMEOUT_S", 0.3)
    assert check_opencv(str(nano(tmp_path)))[1].status == "unknown"


def test_an_opencv_that_reads_no_stream_is_a_warning(library):
    library("cv2", "__version__ = '4.5.4'\ndef getBuildInformation(): return ' GStreamer: NO\\n FFMPEG: NO\\n'")
    assert check_opencv()[0].status == "warning"


def test_a_jetson_without_its_gpu_is_a_warning(tmp_path):
    check = check_cuda(str(nano(tmp_path)))
    assert (check.status, check.fix) == ("warning", "in a container: docker run --runtime nvidia")
    assert check_cuda(str(tmp_path / "pc")).found == "no NVIDIA GPU here"


@pytest.mark.slow
def test_a_gpu_without_tensorrt_is_a_warning(tmp_path, library):
    library("tensorrt", "raise ImportError('No module named tensorrt')")
    assert check_tensorrt(str(tmp_path)).status == "ok"
    write(tmp_path, {"dev/nvhost-gpu": ""})
    check = check_tensorrt(str(nano(tmp_path / "nano")))
    assert (check.status, "apt-get install -y nvidia-jetpack" in check.fix) == ("warning", True)
    check = check_tensorrt(str(tmp_path))
    assert (check.status, "install tensorrt" in check.fix) == ("warning", True)


@pytest.mark.slow
def test_a_gpu_whose_cuda_runtime_does_not_answer_is_a_warning(tmp_path, monkeypatch):
    write(tmp_path, {"dev/nvhost-gpu": ""})
    monkeypatch.setattr(libraries, "_CUDA", "raise ImportError('libcudart is neither here nor there')")
    check = check_cuda(str(tmp_path))
    assert (check.status, check.found) == ("warning", "libcudart is neither here nor there")
    monkeypatch.setattr(libraries, "_CUDA", "return '/lib/libcudart.so', 10020, 0, 'no CUDA-capable device'")
    assert check_cuda(str(tmp_path)).found == "/dev/nvhost-gpu, /lib/libcudart.so of CUDA 10.2: no CUDA-capable device"
    monkeypatch.setattr(libraries, "_CUDA", "return '/lib/libcudart.so', 12060, 1, ''")
    check = check_cuda(str(tmp_path))
    assert (check.status, check.found) == ("ok", "/dev/nvhost-gpu, /lib/libcudart.so of CUDA 12.6, 1 device")


def test_a_damaged_bundle_fails(copied):
    flip_byte(copied / "golden" / "000.png", 50)
    [check] = check_bundle(str(copied), 60.0)
    assert check.status == "fail"
    assert "golden/000.png was changed" in check.found


@pytest.mark.slow
def test_a_model_that_fails_its_golden_images_is_a_warning_while_another_runs(copied):
    reseal(copied, spoil_int8)
    models = check_bundle(str(copied), 60.0)[2:]
    assert models[0].status == "warning"
    assert "but the logits differ by more than the limit: FAIL: int8-cpu on onnxruntime: " in models[0].found
    assert re.search(r"logits differ by at most \S+ \(limit \S+\) and on average \S+", models[0].found)
    assert "ok" in [check.status for check in models]


@pytest.mark.slow
def test_a_bundle_of_which_nothing_runs_fails(copied):
    reseal(copied, lambda manifest: [model.update(tolerances=NONE_ALLOWED) for model in manifest["models"]])
    assert {check.status for check in check_bundle(str(copied), 60.0)[2:]} == {"fail"}


@pytest.mark.slow
def test_a_model_that_crashes_its_backend_is_survived(copied, library):
    reseal(copied, lambda manifest: [model.update(backends=["onnxruntime"]) for model in manifest["models"]])
    library("onnxruntime", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    models = check_bundle(str(copied), 60.0)[2:]
    assert {check.found for check in models} == {"died of SIGSEGV"}
    library("onnxruntime", "import time; time.sleep(600)")
    check = check_bundle(str(copied), 1.0)[2]
    assert (check.status, "builds its engine" in check.fix) == ("unknown", True)


def test_a_child_finds_nothing_in_the_working_directory(tmp_path, monkeypatch):
    write(tmp_path, {"json.py": "raise SystemExit('wrong json')", "numpy.py": "raise SystemExit('wrong numpy')"})
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # python -m pytest adds it itself
    assert check_numpy().status == "ok"


@pytest.mark.slow
def test_the_children_of_a_program_end_with_it(tmp_path):
    pid = tmp_path / "pid"
    status, _ = run(["sh", "-c", f"sleep 600 & echo $! > {pid}; wait"], timeout_s=1.0)
    assert status is None
    assert ends(pid.read_text().strip())
