"""Arrays of every layout: converted to BGR if that loses nothing, else refused with advice."""

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import ImageError, OptionError
from edgeclf_runtime.images.pixel_layouts import as_bgr
from tests.support.pictures import encode, noise

BGR = noise(8, 6)
GRAY = BGR[:, :, 0]


def same(found, expected):
    return found.dtype == np.uint8 and found.shape == expected.shape and np.array_equal(found, expected)


def test_bgr_pixels_are_returned_unchanged():
    assert as_bgr(BGR) is BGR


def test_rgb_pixels_are_reordered():
    assert same(as_bgr(BGR[:, :, ::-1], "rgb"), BGR)


@pytest.mark.parametrize("gray", [GRAY, GRAY[:, :, None], GRAY[::-1][::-1]], ids=["2d", "3d", "strides"])
def test_gray_becomes_three_equal_channels(gray):
    assert same(as_bgr(gray), np.stack([GRAY] * 3, 2))


@pytest.mark.parametrize(("order", "expected"), [("bgr", BGR), ("rgb", BGR[:, :, ::-1])])
def test_a_fourth_channel_is_dropped(order, expected):
    assert same(as_bgr(np.dstack([BGR, GRAY]), order), expected)


def test_pixels_that_are_not_contiguous_are_read():
    assert same(as_bgr(np.dstack([BGR, GRAY])[::2, ::-1]), BGR[::2, ::-1])


REFUSED = {
    "none": (None, "the image is None, which cv2.imread() returns for a file that it cannot read"),
    "a list": (BGR.tolist(), "found a list: pass numpy.array(image, numpy.uint8)"),
    "bytes": (b"\xff\xd8", "found bytes: decode a file's bytes with edgeclf_runtime.images.read.decode_image()"),
    "a number": (7, "a numpy array of uint8 [height, width, 3] was expected, found int"),
    "shares": (
        (BGR / 255).astype(np.float32),
        "float32 [6, 8, 3], with values from 0 to 0.25098: (image * 255).round().astype(numpy.uint8)",
    ),
    "doubles": (BGR.astype(np.float64), "found float64 [6, 8, 3], with values from 0 to 64: image.round().astype"),
    "not all numbers": (np.full((6, 8), np.nan), "float64 [6, 8]: some of its values are not finite numbers"),
    "below zero": (BGR / 127.5 - 1, "scale it to 0 to 255, then .astype(numpy.uint8)"),
    "12 bits": (BGR.astype(np.uint16) * 16, "to 1024: (image >> 4).astype(numpy.uint8)"),
    "16 bits": (
        BGR.astype(np.uint16) * 257,
        "uint16 [6, 8, 3], with values from 0 to 16448: (image >> 8).astype(numpy.uint8)",
    ),
    "32 bits": (BGR.astype(np.int32), "found int32 [6, 8, 3], with values from 0 to 64: image.astype(numpy.uint8)"),
    "8 bits with a sign": (BGR.astype(np.int8), "found int8 [6, 8, 3]"),
    "switches": (GRAY > 99, "bool [6, 8]: convert True and False with image.astype(numpy.uint8) * 255"),
    "objects": (BGR.astype(object), "found object [6, 8, 3]"),
    "complex": (BGR.astype(np.complex64), "found complex64"),
    "channels first": (BGR.transpose(2, 0, 1), "[3, 6, 8]: channels come last: image.transpose(1, 2, 0)"),
    "a batch": (BGR[None], "[1, 6, 8, 3]: for several images, pass a list to classify_batch()"),
    "a row": (GRAY[0], "found uint8 [8]"),
    "a pixel": (np.uint8(7), "found uint8"),
    "no dimension": (np.array(7, np.uint8), "found uint8 []"),
    "two channels": (BGR[:, :, :2], "found uint8 [6, 8, 2]"),
    "five channels": (np.dstack([BGR, BGR[:, :, :2]]), "found uint8 [6, 8, 5]"),
    "nothing": (BGR[:0], "[0, 8, 3], which is empty"),
    "no columns": (GRAY[:, :0], "[6, 0], which is empty"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_anything_but_an_image_is_refused_with_advice(kind):
    image, message = REFUSED[kind]
    with pytest.raises(ImageError) as caught:
        as_bgr(image)
    assert message in str(caught.value)


def test_a_pil_image_is_refused_with_how_to_convert_it():
    image = pytest.importorskip("PIL.Image").fromarray(BGR[:, :, ::-1])
    with pytest.raises(ImageError, match=r'pass numpy\.array\(image\.convert\("RGB"\)\) and order="rgb"'):
        as_bgr(image)
    assert same(as_bgr(np.array(image.convert("RGB")), order="rgb"), BGR)


def test_an_unknown_order_is_refused():
    with pytest.raises(OptionError, match="order is 'gbr'"):
        as_bgr(BGR, "gbr")


@pytest.mark.slow
def test_every_layout_of_one_picture_has_the_label_and_confidence_of_its_file(bundle, tmp_path):
    picture = np.stack([noise(64, 48)[:, :, 0]] * 3, 2)
    path = tmp_path / "picture.png"
    path.write_bytes(encode(".png", picture))
    alpha = np.full((48, 64, 1), 9, np.uint8)
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(path)
        arrays = [picture, picture[:, :, 0], picture[:, :, :1], np.dstack([picture, alpha])]
        found = [classifier.classify(array, order=order) for array in arrays for order in ("bgr", "rgb")]
        found += classifier.classify_batch(arrays, order="rgb")
        found += [classifier.classify(str(path))]
        with pytest.raises(ImageError, match="the image is None"):
            classifier.classify(None)
    assert {(result.label, result.confidence) for result in found} == {(expected.label, expected.confidence)}


@pytest.mark.slow
def test_a_region_and_a_rotation_of_rgb_pixels_are_those_of_the_picture(bundle):
    picture = noise(64, 48)
    with Classifier.open(bundle) as classifier:
        expected = classifier.classify(picture, (8, 8, 32, 32), 90)
        found = classifier.classify(picture[:, :, ::-1], (8, 8, 32, 32), 90, order="rgb")
    assert np.array_equal(found.confidences, expected.confidences)
