"""Augmentation: presets, single steps, and the same random changes for the same seed."""

import pickle

import numpy as np
import pytest
import torch

from edgeclf.errors import OptionError
from edgeclf.options import PRESETS, AugmentationOptions, MakeOptions, Steps, TrainOptions, augmentation_steps
from edgeclf.training.augmentation import augmentation
from tests.support.photos import picture

STEPS = {
    "flips": "all",
    "crop_padding": 4,
    "rotate": 30,
    "translate": 0.2,
    "zoom": 0.3,
    "perspective": 0.2,
    "brightness": 0.5,
    "contrast": 0.5,
    "color": 0.5,
    "blur": 10,
    "noise": 20,
    "jpeg": 30,
    "erase": 1,
    "policy": "trivial",
}


def image(side=48):
    """A photograph of noise as a data set has it: uint8 [3, side, side], over memory of [side, side, 3]."""
    return torch.from_numpy(picture(1, side, side)).permute(2, 0, 1)


def views(count=20, side=48, seed=0, source=None, **options):
    """Augmented views of one image."""
    torch.manual_seed(seed)
    change = augmentation(AugmentationOptions(**options), side)
    return [change(image(side) if source is None else source) for _ in range(count)]


def only(**steps):
    return {"augment": "none", **steps}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("side", [32, 96])
def test_a_preset_keeps_size_and_type(preset, side):
    found = views(augment=preset, side=side)
    assert {(tuple(view.shape), view.dtype) for view in found} == {((3, side, side), torch.uint8)}
    assert len({view.numpy().tobytes() for view in found}) == (1 if preset == "none" else 20)


def test_none_leaves_the_image_as_it_is():
    assert all(torch.equal(view, image()) for view in views(augment="none"))


@pytest.mark.parametrize(("step", "strength"), STEPS.items())
def test_every_step_changes_the_image_by_itself(step, strength):
    before = image()
    kept = before.clone()
    assert any(not torch.equal(view, before) for view in views(**only(**{step: strength}), source=before))
    assert torch.equal(before, kept)


def test_the_example_of_a_step_is_of_every_step():
    assert set(STEPS) == set(Steps._fields)


@pytest.mark.parametrize("preset", ["photo", "inspection", "document"])
def test_the_same_seed_gives_the_same_views_and_another_does_not(preset):
    first = torch.stack(views(augment=preset, policy="randaugment", erase=0.5, noise=5))
    assert torch.equal(torch.stack(views(augment=preset, policy="randaugment", erase=0.5, noise=5)), first)
    assert not torch.equal(torch.stack(views(augment=preset, seed=1)), first)


def test_a_worker_process_can_receive_it():
    change = augmentation(AugmentationOptions(**STEPS), 48)
    torch.manual_seed(0)
    expected = change(image())
    torch.manual_seed(0)
    assert torch.equal(pickle.loads(pickle.dumps(change))(image()), expected)


# The single steps


@pytest.mark.parametrize(("flips", "outcomes"), [("none", 1), ("horizontal", 2), ("all", 8)])
def test_flips_are_exact(flips, outcomes):
    found = {view.numpy().tobytes() for view in views(100, **only(flips=flips))}
    assert len(found) == outcomes
    assert all(sorted(data) == sorted(image().contiguous().numpy().tobytes()) for data in found)


def test_a_crop_is_a_window_of_the_image_with_a_black_border():
    padded = torch.nn.functional.pad(image(32), (4, 4, 4, 4))
    windows = {padded[:, y : y + 32, x : x + 32].numpy().tobytes() for y in range(9) for x in range(9)}
    found = {view.contiguous().numpy().tobytes() for view in views(200, side=32, **only(crop_padding=4))}
    assert found <= windows
    assert len(found) > 50


def spot(view):
    """Where a bright spot is: x and y from the center."""
    y, x = np.nonzero(view[0].numpy() > 60)
    return x.mean() - 50, y.mean() - 50


def spotted(x, y):
    source = torch.zeros(3, 101, 101, dtype=torch.uint8)
    source[:, 50 + y - 1 : 50 + y + 2, 50 + x - 1 : 50 + x + 2] = 255
    return source


def test_a_shift_is_at_most_the_share_of_the_side():
    found = np.array([spot(view) for view in views(100, 101, source=spotted(0, 0), **only(translate=0.1))])
    assert 8 < np.abs(found).max() <= 11


def test_a_rotation_keeps_the_center_and_the_distance_from_it():
    found = np.array([spot(view) for view in views(100, 101, source=spotted(30, 0), **only(rotate=20))])
    assert np.allclose(np.hypot(*found.T), 30, atol=1)
    assert 17 < np.degrees(np.abs(np.arctan2(*found.T[::-1])).max()) <= 21


def test_a_zoom_moves_what_is_off_center():
    found = np.array([spot(view) for view in views(100, 101, source=spotted(30, 0), **only(zoom=0.2))])
    assert np.allclose(found[:, 1], 0, atol=1)
    assert 23 <= found[:, 0].min() < 26
    assert 34 < found[:, 0].max() <= 37


def gray(value, side=48):
    return torch.full((3, side, side), value, dtype=torch.uint8)


def test_brightness_is_a_factor_of_every_pixel():
    found = torch.stack(views(100, source=gray(100), **only(brightness=0.2))).float()
    assert 79 <= found.min() < 85
    assert 115 < found.max() <= 121
    assert float(found.flatten(1).std(1).max()) == 0


def test_contrast_keeps_the_mean():
    low = image() // 4 + 96
    found = torch.stack(views(100, source=low, **only(contrast=0.5))).float()
    assert float((found.mean((1, 2, 3)) - low.float().mean()).abs().max()) < 2
    spread = found.flatten(1).std(1) / low.float().std()
    assert 0.45 < float(spread.min()) < 0.6
    assert 1.4 < float(spread.max()) < 1.55


def test_color_changes_the_channels_by_themselves():
    found = torch.stack(views(50, source=gray(120), **only(color=0.3))).float().mean((2, 3))
    assert float((found - 120).abs().max()) > 20
    assert float((found.max(1).values - found.min(1).values).max()) > 20


def test_noise_has_the_deviation_that_was_given():
    deviations = torch.stack(views(50, source=gray(128), **only(noise=10))).float().flatten(1).std(1)
    assert float(deviations.min()) < 2
    assert 8 < float(deviations.max()) < 11


def test_blur_goes_by_the_size_of_the_image():
    # A sigma of 2 in 224 pixels is 0.2 in 24.
    small, large = (torch.stack(views(30, side, **only(blur=2))).float() for side in (24, 224))
    assert float(small[0].std() / small.flatten(1).std(1).min()) < 1.2
    assert float(large.flatten(1).std(1).max() / large.flatten(1).std(1).min()) > 3


# Options


def test_photo_is_what_full_always_did():
    assert TrainOptions().steps == PRESETS["photo"]
    assert PRESETS["photo"].active() == {
        "flips": "horizontal",
        "translate": 0.05,
        "zoom": 0.1,
        "brightness": 0.2,
        "contrast": 0.2,
    }


def test_an_option_overrides_its_step_of_the_preset():
    steps = AugmentationOptions(augment="inspection", rotate=0, jpeg=50).steps
    assert steps == PRESETS["inspection"]._replace(rotate=0, jpeg=50)


def test_recorded_options_of_a_run_from_before_the_presets_stand_for_the_same_steps():
    assert augmentation_steps({"flips": "horizontal", "epochs": 3}) == TrainOptions().steps
    assert augmentation_steps({"flips": "none"}) == TrainOptions(finetune="full", flips="none").steps


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"augment": "photos"}, "augment is 'photos'; photo, inspection, document, none was expected"),
        ({"flips": "up"}, "flips is 'up'; none, horizontal, all was expected"),
        ({"policy": "auto"}, "policy is 'auto'; none, trivial, randaugment was expected"),
        ({"crop_padding": -1}, "crop-padding is -1; 0 to 256 was expected"),
        ({"rotate": 200}, "rotate is 200; 0 to 180 was expected"),
        ({"zoom": float("nan")}, "zoom is nan; 0 to 0.9 was expected"),
        ({"jpeg": 0}, "jpeg is 0; 1 to 100 was expected"),
    ],
)
def test_a_step_that_cannot_be_done_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        AugmentationOptions(**given)


@pytest.mark.parametrize("kind", [TrainOptions, MakeOptions])
@pytest.mark.parametrize("given", [{"augment": "document"}, {"crop_padding": 4}])
def test_augmentation_of_a_frozen_backbone_is_refused(kind, given):
    [name] = given
    with pytest.raises(
        OptionError, match=rf"{name.replace('_', '-')} was given, but head .*: add --views 4, or --finetune full"
    ):
        kind(**given)
    assert kind(finetune="full", **given).finetune == "full"
