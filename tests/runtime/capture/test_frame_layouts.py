"""Frames of every layout: converted to BGR if that loses nothing, else refused with advice."""

import json

import numpy as np
import pytest

from edgeclf_runtime.capture.readers.frame_layouts import frame_as_bgr
from edgeclf_runtime.capture.source import Source
from edgeclf_runtime.errors import SourceError
from edgeclf_runtime.images.pixel_layouts import as_bgr
from tests.runtime.capture.test_gstreamer import run_by_system, with_gstreamer
from tests.support.pictures import noise

BGR = noise(8, 6)
GRAY = BGR[:, :, 0]


def same(found, expected):
    return found.dtype == np.uint8 and found.shape == expected.shape and np.array_equal(found, expected)


def source(pipeline):
    return Source("gstreamer", pipeline, "gst://it")


@pytest.mark.parametrize(("named", "order"), [("BGRx", "bgr"), ("BGRA", "bgr"), ("RGBA", "rgb"), ("RGBx", "rgb")])
def test_four_channels_have_the_order_that_the_last_caps_name(named, order):
    pipeline = "v4l2src ! video/x-raw,format=YUY2 ! videoconvert ! video/x-raw, format=(string){} ! queue ! appsink"
    expected = as_bgr(np.dstack([BGR, GRAY]), order)
    assert same(frame_as_bgr(np.dstack([BGR, GRAY]), source(pipeline.format(named)), 6), expected)


def test_four_channels_of_unknown_order_are_refused_since_colors_would_be_wrong():
    for pipeline in ("somesrc ! appsink", "somesrc ! video/x-raw,format=RGBA ! nvvidconv ! appsink"):
        with pytest.raises(SourceError, match="delivers four channels"):
            frame_as_bgr(np.dstack([BGR, GRAY]), source(pipeline), 6)


def test_another_layout_of_a_usb_camera_asks_for_another_format():
    with pytest.raises(SourceError, match=r"delivers packed YUV .* choose another camera format with --format"):
        frame_as_bgr(BGR[:, :, :2], Source("device", "/dev/video0", "/dev/video0"), 6)


READ = """
import json, sys
import edgeclf_runtime.capture.parent
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.errors import SourceError
edgeclf_runtime.capture.parent.OPEN_TIMEOUT_S = 60
found = []
for pipeline in sys.argv[1:]:
    with open_camera("gst://" + pipeline, timeout_s=30) as camera:
        try:
            image = camera.read().image
            found.append([image.shape, [int(value) for value in image[0, 0]]])
        except SourceError as error:
            try:
                camera.read(0)
                again = ""
            except SourceError as second:
                again = str(second)
            found.append([str(error), again == str(error)])
print(json.dumps(found))
"""
TEST = (
    "videotestsrc is-live=true pattern=red ! video/x-raw,format={},width=64,height=48 ! appsink drop=true max-buffers=1"
)


def read_all(*pipelines):
    out = run_by_system(READ, *pipelines)
    assert out.returncode == 0, out.stderr.decode()
    return json.loads(out.stdout.decode())


@pytest.mark.slow
@with_gstreamer
def test_an_appsink_of_each_layout_is_converted_or_refused_at_once_with_the_caps_to_add():
    names = ["BGR", "BGRx", "BGRA", "RGBA", "RGBx", "GRAY8"]
    colored = read_all(*[TEST.format(name) for name in names])
    assert [shape for shape, _ in colored] == [[48, 64, 3]] * len(names)
    assert [pixel for _, pixel in colored[:5]] == [[0, 0, 255]] * 5
    assert len(set(colored[5][1])) == 1
    kinds = {"YUY2": "packed YUV", "UYVY": "packed YUV", "YVYU": "packed YUV", "GRAY16_LE": "16 bits a channel"}
    kinds.update(GRAY16_BE="16 bits a channel", **dict.fromkeys(("NV12", "NV21", "I420", "YV12"), "planar YUV"))
    for kind, (error, again) in zip(kinds.values(), read_all(*[TEST.format(name) for name in kinds])):
        assert "delivers " + kind in error
        assert error.endswith('in the pipeline, put "videoconvert ! video/x-raw,format=BGR !" before its appsink')
        assert again


@pytest.mark.slow
@with_gstreamer
def test_jpeg_and_bayer_of_an_appsink_are_refused_with_their_decoder():
    bayer = "videotestsrc is-live=true ! video/x-bayer,format=rggb,width=64,height=48 ! appsink"
    jpeg = "videotestsrc is-live=true ! jpegenc ! image/jpeg,width=64,height=48 ! appsink"
    (first, _), (second, _) = read_all(bayer, jpeg)
    assert 'put "bayer2rgb ! videoconvert ! video/x-raw,format=BGR !" before' in first
    assert 'put "jpegdec ! videoconvert ! video/x-raw,format=BGR !" before' in second


@pytest.mark.slow
@with_gstreamer
def test_the_advice_of_a_refusal_makes_the_pipeline_work():
    ends = ["videoconvert ! video/x-raw,format=BGR ! appsink"]
    assert [shape for shape, _ in read_all(*[TEST.format("NV12").partition("appsink")[0] + end for end in ends])] == [
        [48, 64, 3]
    ]
