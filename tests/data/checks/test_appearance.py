"""Findings from pixels: exposure, size and shape, for the model's input."""

import cv2
import numpy as np
import pytest

from edgeclf.data.checks.integrity import check
from tests.support.photos import kinds, only, picture, write_photos, write_picture

LABELS = ("cat", "dog")
PIXELS = {"dark", "bright", "small", "cropped", "nearly-black"}


def shaped(root, width, height, number=6):
    return write_photos(
        root, [f"{label}/{n}.png" for label in LABELS for n in range(number)], width=width, height=height
    )


# Exposure


@pytest.mark.parametrize(("level", "kind", "words"), [(4, "dark", "nearly black"), (250, "bright", "nearly white")])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_sets_without_light_or_with_too_much_are_warned_of(tmp_path, level, kind, words, suffix):
    for label in LABELS:
        for number in range(6):
            noise = picture(number + 100 * (label == "cat"), 64, 64) // 64
            write_picture(tmp_path / label / f"{number}{suffix}", (noise + level).clip(0, 255).astype(np.uint8))
    finding = only(check(tmp_path, image_size=32).findings, kind)
    assert finding.message.startswith(f"12 of 12 images are {words}")
    assert len(finding.files) == 12


def test_one_class_without_light_is_named(tmp_path):
    write_photos(tmp_path, [f"cat/{n}.png" for n in range(20)])
    for number in range(6):
        write_picture(tmp_path / "dog" / f"{number}.png", picture(number) // 32)
    message = only(check(tmp_path, image_size=32).findings, "dark").message
    assert message.startswith("6 of 26 images are nearly black")
    assert "'dog'" in message
    assert "'cat'" not in message


def test_a_dark_picture_with_a_bright_subject_is_a_photograph(tmp_path):
    for label in LABELS:
        for number in range(6):
            pixels = picture(number + 50 * (label == "cat"), 64, 64) // 32
            pixels[20:40, 20:40] = 200
            write_picture(tmp_path / label / f"{number}.png", pixels)
    assert not kinds(check(tmp_path, image_size=32).findings) & PIXELS


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_sixteen_bit_files_of_fewer_bits_are_reported_once(tmp_path, bits):
    for label in LABELS:
        for number in range(6):
            pixels = np.random.default_rng([number, label == "cat"]).integers(0, 1 << bits, (40, 40), np.uint16)
            path = tmp_path / label / f"{number}.tif"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), pixels)
    findings = check(tmp_path, image_size=32).findings
    assert kinds(findings) & PIXELS == {"nearly-black"}
    assert len(only(findings, "nearly-black").files) == 12


# Size


def test_images_smaller_than_the_input_are_warned_of_with_the_size_to_choose(tmp_path):
    shaped(tmp_path, 100, 100)
    finding = only(check(tmp_path).findings, "small")
    assert finding.message.startswith(
        "12 of 12 images are smaller than the model's input of 224 x 224 pixels (the first 100 x 100)"
    )
    assert finding.message.endswith("or train with --image-size 96")
    assert "small" not in kinds(check(tmp_path, image_size=96).findings)


def test_no_size_is_advised_that_is_the_input_already(tmp_path):
    write_photos(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(8)], width=28)
    message = only(check(tmp_path, image_size=32).findings, "small").message
    assert message.endswith("are enlarged: use larger images")


def test_a_few_small_images_are_warned_of_too(tmp_path):
    shaped(tmp_path, 64, 64)
    write_picture(tmp_path / "cat" / "icon.png", picture(1, 60, 16))
    finding = only(check(tmp_path, image_size=64).findings, "small")
    assert finding.files == (str(tmp_path / "cat" / "icon.png"),)
    assert "--image-size" not in finding.message


# Shape


@pytest.mark.parametrize(
    ("width", "height", "share"), [(64, 36, "44%"), (36, 64, "44%"), (64, 48, "25%"), (400, 40, "90%")]
)
def test_long_images_are_warned_of_if_they_are_cropped(tmp_path, width, height, share):
    shaped(tmp_path, width, height)
    message = only(check(tmp_path, image_size=32).findings, "cropped").message
    assert f"the resize mode crop discards {share} of a typical image" in message
    assert "train with --resize letterbox or --resize stretch" in message
    for resize in ("letterbox", "stretch"):
        assert "cropped" not in kinds(check(tmp_path, image_size=32, resize=resize).findings)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (64, 52), (52, 64)])
def test_nearly_square_images_have_nothing_to_say(tmp_path, width, height):
    assert not kinds(check(shaped(tmp_path, width, height), image_size=32).findings) & PIXELS


def test_portraits_and_landscapes_do_not_cancel_out(tmp_path):
    shaped(tmp_path / "cat", 64, 40)
    shaped(tmp_path / "dog", 40, 64)
    (tmp_path / "data").mkdir()
    for label in LABELS:
        (tmp_path / label / "cat").rename(tmp_path / "data" / label)
    assert only(check(tmp_path / "data", image_size=32).findings, "cropped")


def test_the_command_line_has_the_input(tmp_path, command):
    shaped(tmp_path, 64, 40)
    out = command("check", tmp_path)[1]
    assert "warning: small: " in out
    assert "warning: cropped: " in out
    out = command("check", tmp_path, "--image-size", "32", "--resize", "letterbox")[1]
    assert "small: " not in out
    assert "cropped: " not in out
