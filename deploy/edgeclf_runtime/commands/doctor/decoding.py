"""The doctor's check of hardware that decodes video."""

from typing import List

from ...capture.hardware.decoders import Decoder, likely
from ...device.machine import is_jetson
from ...device.remedies import apt, uninstall
from .checks import Check, ask

_NAME = "video decoding"
_INSTALLED = """
from edgeclf_runtime.capture.hardware.decoders import installed, likely
from edgeclf_runtime.capture.readers.opencv_reader import has_gstreamer
return has_gstreamer(), [[decoder.codec, decoder.element] for decoder in installed(likely())]
"""
_PLUGINS = "gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-tools"


def check_decoding(root: str = "/") -> Check:
    """Check whether rtsp:// streams can be decoded in hardware: a device, an OpenCV with GStreamer, and an element for it."""
    candidates = likely(root)
    if not candidates:
        return Check(_NAME, "ok", "in software: this machine has no decoder that is known here")
    answer = ask(_INSTALLED)
    if not answer.found:
        return Check(_NAME, "unknown", answer.failure, "see the check of opencv above")
    gstreamer, elements = answer.found
    status = "warning" if is_jetson(root) else "ok"
    if not gstreamer:
        found = "in software: {} would need an OpenCV with GStreamer, which pip's OpenCV is not".format(
            _elements(candidates)
        )
        return Check(_NAME, status, found, _opencv_fix(root))
    if not elements:
        found = "in software: GStreamer has none of {}".format(_elements(candidates))
        fix = apt("nvidia-l4t-gstreamer" if is_jetson(root) else _PLUGINS)
        return Check(_NAME, status, found, fix if status == "warning" else "")
    listed = ", ".join("{} by {}".format(*one) for one in elements)
    return Check(_NAME, "ok", "in hardware, for rtsp://: {}".format(listed))


def _elements(decoders: List[Decoder]) -> str:
    return ", ".join(dict.fromkeys(decoder.element for decoder in decoders))


def _opencv_fix(root: str) -> str:
    if not is_jetson(root):
        return ""
    return "{}; if pip has installed an OpenCV: {}".format(
        apt("libopencv-python"), uninstall("opencv-python opencv-python-headless")
    )
