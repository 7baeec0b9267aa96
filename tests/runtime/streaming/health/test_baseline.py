import json

import numpy as np
import pytest

from edgeclf_runtime.files.schema import SchemaError
from edgeclf_runtime.streaming.health.baseline import MOST_BYTES, fit_baseline, parse_baseline
from edgeclf_runtime.streaming.health.measures import measure
from tests.support.scenes import training


@pytest.fixture(scope="module")
def baseline():
    return training()


def test_a_baseline_survives_json_and_is_small(baseline):
    text = json.dumps(baseline.to_dict())
    assert parse_baseline(json.loads(text), 2).to_dict() == baseline.to_dict()
    assert len(text) < MOST_BYTES


def test_labels_of_another_number_are_refused(baseline):
    with pytest.raises(SchemaError, match="labels is a list of 2; a list of 3 was expected"):
        parse_baseline(baseline.to_dict(), 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("layout"), "the field 'layout' is missing"),
        (lambda value: value["limits"].pop("noise"), "limits: the field 'noise' is missing"),
        (lambda value: value["limits"]["noise"].update(near=[2, 1]), "near inside far was expected"),
        (lambda value: value["layout"]["mean"].pop(), "a list of 256 was expected"),
        (lambda value: value.update(version=2), "version is 2"),
    ],
)
def test_a_damaged_baseline_is_refused(baseline, change, message):
    value = json.loads(json.dumps(baseline.to_dict()))
    change(value)
    with pytest.raises(SchemaError, match=message):
        parse_baseline(value)


def test_equal_training_images_leave_room_for_a_cameras_noise():
    same = [measure(np.full((64, 64, 3), 120, np.uint8))] * 30
    found = fit_baseline(same)
    assert all(low < high for limits in found.limits.values() for low, high in limits)
    assert np.isfinite(found.layout.compare(same[0].layout, same[0].detail)).all()


def test_the_limits_hold_the_middle_of_each_label():
    dark, light = ([measure(np.full((64, 64, 3), level, np.uint8))] * count for level, count in ((20, 20), (200, 980)))
    limits = fit_baseline(dark + light, ["dark"] * 20 + ["light"] * 980).limits["brightness"]
    assert limits.near[0] < 20
