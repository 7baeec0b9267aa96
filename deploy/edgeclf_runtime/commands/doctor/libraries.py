"""The doctor's checks of Python, the libraries, the GPU, and a bundle's models.  No native library is loaded here."""

import os
import platform
import signal
import sys
from typing import List, Union

from ...bundle.open_bundle import Bundle, Model, open_bundle
from ...classify.selection import candidates, pair_name
from ...classify.tuning.choice import remembered
from ...device.child_process import find_program
from ...device.machine import cpu_features, gpu_nodes, is_jetson
from ...device.remedies import allow, apt, as_root, install, pip, uninstall
from ...errors import EdgeclfError
from ...runners import backend_version
from ...runners.openvino import OLDEST_PYTHON
from .checks import Check, ask, run

PYTHONS = ((3, 6), (3, 13))
GST_TIMEOUT_S = 20.0
# The JetPack that has a TensorRT version.  Source: NVIDIA's JetPack release notes.
_X86, _ARM = ("x86_64", "AMD64", "i686"), ("aarch64", "arm64", "armv7l")
# As /proc/cpuinfo names them.  Measured: benchmarks/NOTES.md.
_INT8_INSTRUCTIONS = {"avx_vnni", "avx512_vnni", "amx_int8"}
JETPACKS = {
    "8.0": "4.6.0",
    "8.2": "4.6.1 to 4.6.6",
    "8.5": "5.1",
    "8.6": "6.0",
    "10.3": "6.1 or 6.2",
    "10.13": "7.0 or 7.1",
    "10.16": "7.2",
    "11.4": "7.2",
}
ARGUS_SOCKET = "tmp/argus_socket"
_NUMPY = "import numpy\nreturn numpy.__version__"
_OPENCV = """
import cv2
fields = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if ":" in line]
return cv2.__version__, {name.strip(): value.strip() for name, value in fields if name.strip() in ("GStreamer", "FFMPEG")}
"""
_TENSORRT = "import tensorrt\nreturn tensorrt.__version__"
_ONNXRUNTIME = "import onnxruntime\nreturn onnxruntime.__version__, onnxruntime.get_available_providers()"
_CUDA = """
import ctypes, ctypes.util, glob
places = [name for name in [ctypes.util.find_library("cudart")] if name]
places += sorted(glob.glob("/usr/local/cuda*/lib64/libcudart.so*"))
if not places:
    raise ImportError("libcudart is neither known to ldconfig nor in /usr/local/cuda*/lib64")
library = ctypes.CDLL(places[0])
version, devices = ctypes.c_int(), ctypes.c_int()
library.cudaRuntimeGetVersion(ctypes.byref(version))
code = library.cudaGetDeviceCount(ctypes.byref(devices))
library.cudaGetErrorString.restype = ctypes.c_char_p
error = library.cudaGetErrorString(code).decode() if code else ""
return places[0], version.value, devices.value, error
"""
_MODEL = """
from edgeclf_runtime.commands.selftest import selftest
report = selftest({path!a}, {model!a}, {backend!a})
return dict(report.to_dict(), lines=[str(one) for one in report.reports])
"""


def check_python() -> Check:
    """Check whether the runtime supports this Python."""
    found = "{}.{}.{} ({})".format(*sys.version_info[:3], sys.executable)
    if sys.version_info[:2] > PYTHONS[1]:
        return Check("python", "warning", found, "newer than the latest tested version, {}.{}".format(*PYTHONS[1]))
    return Check("python", "ok", found)


def check_numpy() -> Check:
    """Check whether numpy can be imported."""
    answer = ask(_NUMPY)
    if answer.found:
        return Check("numpy", "ok", answer.found)
    fix = install("numpy")
    if answer.signal == signal.SIGILL:
        # numpy issue 18131: OpenBLAS mistakes a Jetson's processor for another one.
        fix = "{}, or export OPENBLAS_CORETYPE=ARMV8 (numpy issue 18131)".format(pip("numpy==1.19.4"))
    return Check("numpy", "fail", "import numpy: " + answer.failure, fix)


def check_opencv(root: str = "/") -> List[Check]:
    """Check whether OpenCV can be imported, and which cameras, streams and files it can read; returns two Checks."""
    answer = ask(_OPENCV)
    if not answer.found:
        check = Check("opencv", "fail", "import cv2: " + answer.failure, _fix_opencv(answer.failure, root))
        return [check, _check_csi(False, root)]
    version, parts = answer.found
    parts = {name: value.startswith("YES") for name, value in parts.items()}
    names = {"GStreamer": "GStreamer", "FFMPEG": "FFmpeg"}
    found = version + "".join(
        ", {} {}".format("with" if parts.get(name) else "without", shown) for name, shown in names.items()
    )
    check = Check("opencv", "ok", found)
    if not any(parts.values()):
        fix = "rtsp:// and video files need GStreamer or FFmpeg: {}".format(install("opencv"))
        check = Check("opencv", "warning", found, fix)
    return [check, _check_csi(parts.get("GStreamer", False), root)]


# Libraries that opencv-python needs and that containers or small systems may lack, with their Debian packages.
_OPENCV_NEEDS = {"libGL.so": "libgl1", "libgthread-2.0.so": "libglib2.0-0", "libglib-2.0.so": "libglib2.0-0"}


def _fix_opencv(failure: str, root: str) -> str:
    for library, package in _OPENCV_NEEDS.items():
        if library in failure:
            return "{}, or use the package opencv-python-headless, which does not need it".format(apt(package))
    if "multiarray" in failure:  # it was built for numpy 1 and finds numpy 2
        return pip("'numpy<2'")
    return apt("libopencv-python") if is_jetson(root) else install("opencv")


def _check_csi(gstreamer: bool, root: str) -> Check:
    name = "csi camera"
    if not is_jetson(root):
        return Check(name, "ok", "not a Jetson: csi:// cannot be used here")
    if not gstreamer:
        without = uninstall("opencv-python opencv-python-headless")
        fix = "{}; if pip has installed an OpenCV, which has no GStreamer: {}".format(apt("libopencv-python"), without)
        return Check(name, "warning", "csi:// needs an OpenCV with GStreamer", fix)
    inspect = find_program("gst-inspect-1.0")
    if not inspect:
        return Check(name, "unknown", "gst-inspect-1.0 is not installed", apt("gstreamer1.0-tools"))
    status, _ = run([inspect, "nvarguscamerasrc"], GST_TIMEOUT_S)
    if status is None:
        return Check(name, "unknown", "gst-inspect-1.0 gave no answer in {:g} seconds".format(GST_TIMEOUT_S))
    if status:
        fix = "{}; in a container use one of NVIDIA's l4t images".format(apt("nvidia-l4t-gstreamer"))
        return Check(name, "warning", "GStreamer has no nvarguscamerasrc", fix)
    if not os.path.exists(os.path.join(root, ARGUS_SOCKET)):
        fix = "sudo systemctl restart nvargus-daemon; in a container add -v /tmp/argus_socket:/tmp/argus_socket"
        return Check(
            name, "warning", "nvarguscamerasrc, but /tmp/argus_socket is missing: nvargus-daemon is not running", fix
        )
    return Check(name, "ok", "nvarguscamerasrc, and nvargus-daemon is running")


def check_tensorrt(root: str = "/") -> Check:
    """Check whether TensorRT is installed, and which JetPack it is from."""
    answer = ask(_TENSORRT)
    if answer.found:
        jetpack = JETPACKS.get(".".join(answer.found.split(".")[:2]))
        return Check("tensorrt", "ok", answer.found + (", as in JetPack {}".format(jetpack) if jetpack else ""))
    if answer.missing and not (gpu_nodes(root) or is_jetson(root)):
        return Check("tensorrt", "ok", "not installed; it needs an NVIDIA GPU")
    fix = install("tensorrt")
    if is_jetson(root):
        fix = "{}; a virtual environment needs --system-site-packages".format(apt("nvidia-jetpack"))
    return Check("tensorrt", "warning", "import tensorrt: " + answer.failure, fix)


def check_onnxruntime() -> Check:
    """Check whether ONNX Runtime is installed, and what it can compute on."""
    answer = ask(_ONNXRUNTIME)
    if answer.found:
        version, providers = answer.found
        return Check("onnxruntime", "ok", "{} ({})".format(version, ", ".join(providers)))
    found = "import onnxruntime: " + answer.failure
    if answer.missing and platform.machine() in _ARM:
        found += "; on Arm it is faster than OpenCV as a rule, by far with INT8 on processors that have asimddp"
    return Check("onnxruntime", "warning", found, install("onnxruntime", ask=True))


def check_openvino(root: str = "/") -> Check:
    """Check whether OpenVINO is installed, where it is probably the fastest backend: x86 processors with INT8 instructions."""
    name = "openvino"
    if platform.machine() not in _X86:
        return Check(name, "ok", "not needed: it is for x86 processors")
    version = backend_version(name)
    if version:
        return Check(name, "ok", version)
    int8 = sorted(_INT8_INSTRUCTIONS & cpu_features(root))
    if sys.version_info[:2] < OLDEST_PYTHON or not int8:
        return Check(name, "ok", "not installed; it is faster than onnxruntime with some networks")
    found = "not installed; probably the fastest backend here for INT8, since this processor has {}".format(int8[0])
    return Check(name, "warning", found, "{}, then run a bundle with --tune, which measures it".format(install(name)))


def check_cuda(root: str = "/") -> Check:
    """Check whether there is an NVIDIA GPU, which this user may open and the CUDA runtime finds."""
    nodes = gpu_nodes(root)
    if not nodes:
        if is_jetson(root):
            fix = "in a container: docker run --runtime nvidia"
            return Check("cuda", "warning", "a Jetson without /dev/nvhost-gpu and /dev/nvidia0", fix)
        return Check("cuda", "ok", "no NVIDIA GPU here")
    shut = [node for node in nodes if not os.access(os.path.join(root, node), os.R_OK | os.W_OK)]
    if shut:
        fix = allow(os.path.join(root, shut[0]), "/" + shut[0])
        return Check("cuda", "warning", "this user may not open /{}".format(shut[0]), fix)
    answer = ask(_CUDA)
    if not answer.found:
        how = apt("nvidia-jetpack") if is_jetson(root) else "install CUDA (https://developer.nvidia.com/cuda-downloads)"
        fix = "{}, then {}".format(how, as_root("ldconfig"))
        return Check("cuda", "warning", answer.failure, fix)
    library, version, devices, error = answer.found
    found = "/{}, {} of CUDA {}.{}".format(nodes[0], library, version // 1000, version % 1000 // 10)
    if not devices:
        fix = "the driver and the CUDA runtime do not match, or the container has no access to the GPU"
        return Check("cuda", "warning", "{}: {}".format(found, error or "no device"), fix)
    return Check("cuda", "ok", "{}, {} device{}".format(found, devices, "s" * (devices > 1)))


def check_bundle(path: Union[str, "os.PathLike[str]"], model_timeout_s: float) -> List[Check]:
    """Verify a bundle, and check each of its models on each backend in a separate process."""
    try:
        bundle = open_bundle(path)
        pairs = candidates(bundle)
    except EdgeclfError as error:
        return [Check("bundle", "fail", str(error), "copy the bundle again from where it was made, or make it again")]
    checks = [Check("bundle", "ok", "{}, {} files as in the manifest".format(bundle.name, len(bundle.files)))]
    checks.append(_check_choice(bundle))
    models = [_check_model(bundle, model, backend, model_timeout_s) for model, backend in pairs]
    if any(check.status == "ok" for check in models):
        # The others are passed over, so one is enough.
        models = [check._replace(status="warning") if check.status == "fail" else check for check in models]
    return checks + models


def _check_choice(bundle: Bundle) -> Check:
    fastest = remembered(bundle)
    found = "; ".join("for a {}: {}".format(*item) for item in fastest.items())
    return Check("fastest", "ok", found or "not measured yet: the first run does it, or run --tune")


def _check_model(bundle: Bundle, model: Model, backend: str, timeout_s: float) -> Check:
    name = pair_name(model, backend)
    answer = ask(_MODEL.format(path=bundle.path, model=model.name, backend=backend), timeout_s)
    if answer.hung:
        fix = "TensorRT builds its engine at the first start, which takes minutes: run selftest and wait"
        return Check(name, "unknown", answer.failure, fix)
    if not answer.found:
        return Check(name, "fail", answer.failure, "see the checks of the libraries above")
    if not answer.found["reports"]:
        return Check(name, "fail", "; ".join(answer.found["failures"].values()))
    report = answer.found["reports"][0]
    found = "{} of {} golden labels agree".format(report["labels_agree"], report["images"])
    if report["passed"]:
        return Check(name, "ok", found)
    found += ", but the logits differ by more than the limit: " + answer.found["lines"][0]
    return Check(name, "fail", found, "its logits are wrong on this machine, so it is passed over; see selftest")
