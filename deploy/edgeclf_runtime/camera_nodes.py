"""Which /dev/video* are cameras: codecs, image processors and streams of metadata are nodes of the same kind.

Sources: the kernel's userspace-api/media/v4l/vidioc-querycap, include/uapi/linux/videodev2.h, and the names that
drivers/media and the Raspberry Pi's kernel give their nodes.
"""

import fcntl
import os
import re
import struct
from typing import NamedTuple, Optional

# struct v4l2_capability: driver, card, bus_info, version, capabilities, device_caps, 3 reserved.
_CAPABILITY = struct.Struct("=16s32s32sLLL12x")
_QUERYCAP = 2 << 30 | _CAPABILITY.size << 16 | ord("V") << 8
CAPTURE, CAPTURE_MPLANE = 0x1, 0x1000
OUTPUT, OUTPUT_MPLANE = 0x2, 0x2000
M2M, M2M_MPLANE = 0x8000, 0x4000
META, TOUCH, MEDIA_CONTROLLER, DEVICE_CAPS = 0x00800000, 0x10000000, 0x20000000, 0x80000000
# An image processor's output looks like a camera to whoever asks for its capabilities.
_NO_CAMERAS = re.compile(
    r"bcm2835-(codec|isp)|rpi-hevc|rpivid|pisp|hantro|rkvdec|rockchip[-,](rga|vpu)|cedrus|coda\d|wave5|mxc-jpeg|qualcomm venus|"
    r"tegra-vde",
    re.IGNORECASE,
)
_CODEC = re.compile(r"\b(codec|encoder|decoder|m2m)\b", re.IGNORECASE)
_RAW = re.compile(r"rp1-cfe|unicam", re.IGNORECASE)
_LOOPBACK = "v4l2 loopback"  # a program's pictures as a camera: it takes them and gives them
_PROCESSOR, _RAW_DATA = "codec or image processor", "raw data of a sensor, which libcamera reads"


class Capabilities(NamedTuple):
    """What a driver says of one node.

    driver, card    names
    device_caps     what this node can do, the constants above
    """

    driver: str
    card: str
    device_caps: int


def query(path) -> Optional[Capabilities]:
    """Ask the driver of a node; None if it is not a V4L2 device, or cannot be opened.  A driver may hang."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = bytearray(_CAPABILITY.size)
        fcntl.ioctl(descriptor, _QUERYCAP, answer)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return unpack(bytes(answer))


def unpack(answer):
    """Return the Capabilities in a struct v4l2_capability."""
    driver, card, _, _, capabilities, device_caps = _CAPABILITY.unpack(answer)
    # Drivers before Linux 3.4 give what the whole device can do.
    found = device_caps if capabilities & DEVICE_CAPS else capabilities
    driver, card = (text.split(b"\0")[0].decode("utf-8", "replace") for text in (driver, card))
    return Capabilities(driver, card, found)


def use(name, capabilities=None):
    """Return why a node is not a camera that OpenCV can read, as "codec", or "" for a camera.

    name            as /sys/class/video4linux/NODE/name gives it
    capabilities    None if they are not known: then only the name decides
    """
    if capabilities is None:
        return _use_by_name(name) or (_PROCESSOR if _CODEC.search(name) else "")
    found = capabilities.device_caps
    captures = found & (CAPTURE | CAPTURE_MPLANE)
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


def _use_by_name(name):
    return _PROCESSOR if _NO_CAMERAS.match(name) else _RAW_DATA if _RAW.match(name) else ""
