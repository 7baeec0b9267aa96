"""Each kind of device node, as its driver describes it, and whether it is a camera."""

import errno
import os
import struct

import pytest

from edgeclf_runtime.capture.v4l2 import nodes
from edgeclf_runtime.capture.v4l2.nodes import Capabilities, query, unanswered, unpack, use

STREAMING, EXT_PIX = 0x04000000, 0x00200000
UVC = 0x04200001
NODES = [
    # name in sysfs, driver, device_caps, what it is
    ("HD Webcam C525", "uvcvideo", UVC, ""),
    ("HD Webcam C525", "uvcvideo", 0x04A00000, "metadata"),
    ("Venus USB2.0 Camera", "uvcvideo", UVC, ""),
    ("vi-output, imx219 9-0010", "tegra-video", 0x04200001, ""),
    ("a multiplanar camera", "rkisp", 0x04201000, ""),
    ("bcm2835-codec-decode", "bcm2835-codec", 0x04204000, "codec or image processor"),
    ("bcm2835-codec-isp", "bcm2835-codec", 0x04204000, "codec or image processor"),
    ("bcm2835-isp-output0", "bcm2835-isp", 0x04200002, "output"),
    ("bcm2835-isp-capture0", "bcm2835-isp", 0x04200001, "codec or image processor"),
    ("bcm2835-isp-stats0", "bcm2835-isp", 0x04A00000, "metadata"),
    ("rpi-hevc-dec", "rpi-hevc-dec", 0x04204000, "codec or image processor"),
    ("pispbe-output0", "pispbe", 0x24201000, "raw sensor data, which libcamera reads"),
    ("pispbe-output0", "pispbe", 0x04201000, "codec or image processor"),
    ("pispbe-config", "pispbe", 0x0C200000, "output"),
    ("rp1-cfe-csi2_ch0", "rp1-cfe", 0x24A00001, "raw sensor data, which libcamera reads"),
    ("unicam-image", "unicam", 0x24200001, "raw sensor data, which libcamera reads"),
    ("an old codec", "old", 0x04000003, "codec or image processor"),
    ("a codec of one plane", "new", 0x04008000, "codec or image processor"),
    ("Dummy video device (0x0000)", "v4l2 loopback", 0x05200003, ""),
    ("Dummy video device (0x0000)", "v4l2 loopback", 0x05200002, "a loopback that no program fills"),
    ("a screen", "atmel", 0x10200001, "touch sensor"),
]


@pytest.mark.parametrize(("name", "driver", "device_caps", "expected"), NODES)
def test_a_camera_is_what_captures_pictures_and_does_nothing_else(name, driver, device_caps, expected):
    assert use(name, Capabilities(driver, name, device_caps)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HD Webcam C525", ""),
        ("Venus USB2.0 Camera", ""),
        ("", ""),
        ("bcm2835-codec-encode_image", "codec or image processor"),
        ("pispbe-stats", "codec or image processor"),
        ("rp1-cfe-embedded", "raw sensor data, which libcamera reads"),
        ("some-soc video decoder", "codec or image processor"),
    ],
)
def test_without_an_answer_the_name_decides(name, expected):
    assert use(name) == expected


def test_an_answer_is_taken_apart_as_the_kernel_lays_it_out():
    def answer(capabilities, device_caps):
        return struct.pack("=16s32s32sLLL12x", b"uvcvideo", b"Cam \xff", b"usb-1", 0x60000, capabilities, device_caps)

    assert unpack(answer(0x84A00001, UVC)) == Capabilities("uvcvideo", "Cam \ufffd", UVC)
    # A driver that describes only the whole device.
    assert unpack(answer(0x04000001, 0)).device_caps == 0x04000001


def test_what_is_no_device_has_no_answer(tmp_path):
    (tmp_path / "video0").write_text("")
    os.mkfifo(str(tmp_path / "video1"))
    assert [query(str(tmp_path / name)) for name in ("video0", "video1", "video2")] == [None] * 3
    assert query("/dev/null") is None


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EPERM, "Operation not permitted"),  # a container's device rules
        (errno.ENODEV, "No such device"),
        (errno.EBUSY, ""),
        (errno.EACCES, ""),
    ],
)
def test_a_node_that_nobody_can_open_is_told_from_one_that_is_in_use(monkeypatch, number, why):
    def refuse(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(nodes, "opened", refuse)
    assert unanswered("/dev/video0") == why
