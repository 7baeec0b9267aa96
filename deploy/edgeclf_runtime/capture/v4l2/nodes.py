"""Distinguishes cameras among /dev/video* from codecs, image processors and metadata streams, which have nodes of the same kind.

Sources: the kernel's userspace-api/media/v4l/vidioc-querycap, include/uapi/linux/videodev2.h, and the node names in
drivers/media and in the Raspberry Pi's kernel.
"""

import errno
import fcntl
import os
import re
import struct
from typing import NamedTuple, Optional

from ...device.machine import read_text
from .kernel import opened

# struct v4l2_capability: driver, card, bus_info, version, capabilities, device_caps, 3 reserved.
_CAPABILITY = struct.Struct("=16s32s32sLLL12x")
_QUERYCAP = 2 << 30 | _CAPABILITY.size << 16 | ord("V") << 8
CAPTURE, CAPTURE_MPLANE = 0x1, 0x1000
OUTPUT, OUTPUT_MPLANE = 0x2, 0x2000
M2M, M2M_MPLANE = 0x8000, 0x4000
META, TOUCH, MEDIA_CONTROLLER, DEVICE_CAPS = 0x00800000, 0x10000000, 0x20000000, 0x80000000
# By its capabilities, an image processor's output looks like a camera.
_NO_CAMERAS = re.compile(
    r"bcm2835-(codec|isp)|rpi-hevc|rpivid|pisp|hantro|rkvdec|rockchip[-,](rga|vpu)|cedrus|coda\d|wave5|mxc-jpeg|qualcomm venus|"
    r"tegra-vde",
    re.IGNORECASE,
)
_CODEC = re.compile(r"\b(codec|encoder|decoder|m2m)\b", re.IGNORECASE)
_RAW = re.compile(r"rp1-cfe|unicam", re.IGNORECASE)
_LOOPBACK = "v4l2 loopback"  # a program's images as a camera: the node takes and gives them
_PROCESSOR, _RAW_DATA = "codec or image processor", "raw sensor data, which libcamera reads"


class Capabilities(NamedTuple):
    """A driver's description of a node.

    driver, card    names
    device_caps     what this node can do, as a sum of the constants above
    """

    driver: str
    card: str
    device_caps: int

    @property
    def captures(self) -> bool:
        """True if it delivers images."""
        return bool(self.device_caps & (CAPTURE | CAPTURE_MPLANE))


def query(path: str) -> Optional[Capabilities]:
    """Ask a node's driver; None if it is not a V4L2 device or cannot be opened.  A driver may hang."""
    try:
        with opened(path) as handle:
            return capabilities(handle)
    except OSError:
        return None


def unanswered(path: str) -> str:
    """Return why a node cannot be opened regardless of permissions, or "" if that is not the case.

    ENXIO and ENODEV: it has no driver; EPERM: the device rules of a container's control group.
    """
    try:
        with opened(path):
            return ""
    except OSError as error:
        return error.strerror or "" if error.errno in (errno.ENXIO, errno.ENODEV, errno.EPERM) else ""


def capabilities(handle: int) -> Capabilities:
    """Return an open node's Capabilities; raises OSError."""
    answer = bytearray(_CAPABILITY.size)
    fcntl.ioctl(handle, _QUERYCAP, answer)
    return unpack(bytes(answer))


def unpack(answer: bytes) -> Capabilities:
    """Return the Capabilities in a struct v4l2_capability."""
    driver, card, _, _, capabilities, device_caps = _CAPABILITY.unpack(answer)
    # Drivers before Linux 3.4 report only what the whole device can do.
    found = device_caps if capabilities & DEVICE_CAPS else capabilities
    driver, card = (text.split(b"\0")[0].decode("utf-8", "replace") for text in (driver, card))
    return Capabilities(driver, card, found)


def title(path: str, root: str = "/") -> str:
    """Return the name that a node's driver gives it, or ""."""
    return read_text(os.path.join(root, "sys/class/video4linux", os.path.basename(path), "name")) or ""


def use(name: str, capabilities: Optional[Capabilities] = None) -> str:
    """Return "" for a camera that OpenCV can read, or what the node is instead, such as a codec.

    name            as returned by title()
    capabilities    None if unknown: then only the name decides
    """
    if capabilities is None:
        return _use_by_name(name) or (_PROCESSOR if _CODEC.search(name) else "")
    found = capabilities.device_caps
    captures = capabilities.captures
    if capabilities.driver.startswith(_LOOPBACK):
        return "" if captures else "a loopback that no program fills"
    if found & (M2M | M2M_MPLANE) or (captures and found & (OUTPUT | OUTPUT_MPLANE)):
        return _PROCESSOR
    if found & TOUCH:
        return "touch sensor"
    if not captures:
        return "metadata" if found & META else "output"
    if found & MEDIA_CONTROLLER:
        return _RAW_DATA
    return _use_by_name(name) or _use_by_name(capabilities.card)


def _use_by_name(name: str) -> str:
    return _PROCESSOR if _NO_CAMERAS.match(name) else _RAW_DATA if _RAW.match(name) else ""
