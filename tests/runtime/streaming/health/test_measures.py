import numpy as np
import pytest

from edgeclf_runtime.streaming.health.measures import MEASURES, measure
from tests.support.scenes import blurred, noisy, scene, tinted


def value(name, image):
    return measure(image).values[MEASURES.index(name)]


def test_uint8_and_float32_measure_the_same():
    image = scene(1)
    first, second = measure(image), measure(image.astype(np.float32))
    np.testing.assert_array_equal(first.values, second.values)
    assert first.content == second.content


def test_the_order_of_the_channels_is_that_of_the_model():
    image = scene(1)
    np.testing.assert_allclose(measure(image).values, measure(image[:, :, ::-1].copy(), "BGR").values, atol=1e-6)


def test_sharpness_falls_by_blur_and_not_by_noise_or_light():
    image = scene(1)
    assert value("sharpness", blurred(image)) < value("sharpness", image) - 0.2
    assert value("sharpness", noisy(image)) == pytest.approx(value("sharpness", image), abs=0.1)
    assert value("sharpness", scene(1, 0.6)) == pytest.approx(value("sharpness", image), abs=0.1)


def test_noise_is_that_of_the_sensor_in_levels():
    flat = np.full((96, 96, 3), 100, np.uint8)
    assert value("noise", flat) == 0
    random = np.random.RandomState(0).standard_normal((96, 96, 1)) * 8
    assert value("noise", (flat + random).clip(0, 255).astype(np.uint8)) == pytest.approx(8, rel=0.15)


def test_warmth_is_red_against_blue():
    image = scene(1)
    assert value("warmth", tinted(image)) > value("warmth", image) + 0.5


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_constant_image_has_finite_measures(level):
    found = measure(np.full((64, 64, 3), level, np.uint8))
    assert all(np.isfinite(part).all() for part in found[:3])
    assert not found.layout.any()


def test_levels_that_are_not_finite_give_finite_measures():
    image = scene(1).astype(np.float32)
    image[:8], image[8:16], image[16:24] = np.nan, np.inf, -np.inf
    found = measure(image)
    assert all(np.isfinite(part).all() for part in found[:3])


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 300, 3), (33, 47, 3)])
def test_an_image_of_any_size_is_measured(shape):
    assert len(measure(np.full(shape, 90, np.uint8)).values) == len(MEASURES)
