"""HEIC and AVIF photographs, which optional libraries decode."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf.data.checks.integrity import check, check_for_training
from edgeclf.data.datasets import Sample, load_dataset
from edgeclf.data.pixels import read_photo
from edgeclf.errors import DependencyError, ImageError
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.photos import only, picture, write_photos

SOUND = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(12)]


@pytest.fixture(params=["HEIF", "AVIF"])
def container(request):
    """Write pixels, or an image of Pillow's, as HEIC or AVIF: container(path, pixels)."""
    from PIL import Image, features

    if request.param == "HEIF":
        pytest.importorskip("pillow_heif", reason="pillow-heif is not installed").register_heif_opener()
    elif "avif" not in features.get_supported():
        pytest.skip("this Pillow has no AVIF")

    def write(path, pixels, **how):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels[:, :, ::-1]) if isinstance(pixels, np.ndarray) else pixels
        image.save(path, request.param, **how)
        return path

    return write


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".hif", ".avif", ".jpg"])
def test_heic_and_avif_are_read_by_their_content(tmp_path, container, suffix):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = (200, 30, 10)
    write_photos(tmp_path, SOUND)
    path = container(tmp_path / "cat" / f"phone{suffix}", pixels)
    found = read_photo(path)
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - pixels)[:, :28].max() < 12
    assert len(load_dataset(tmp_path).samples) == len(SOUND) + 1
    assert check(tmp_path).errors == []


def test_heic_and_avif_are_turned_upright_once(tmp_path, container):
    from PIL import Image

    exif = Image.Exif()
    exif[274] = 6
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24] = 255
    found = read_photo(container(tmp_path / "turned.heic", stored, exif=exif.tobytes()))
    assert found.shape == (64, 48, 3)
    assert found[:, 30:].min() > 200 > 50 > found[:, :18].max()


@pytest.mark.parametrize("mode", ["RGBA", "L", "P"])
def test_heic_and_avif_with_an_alpha_channel_or_gray_are_read(tmp_path, container, mode):
    from PIL import Image

    assert read_photo(container(tmp_path / "1.heic", Image.new(mode, (40, 40), 128))).shape == (40, 40, 3)


@pytest.mark.parametrize("name", ["cut", "noise"])
def test_a_damaged_heic_or_avif_is_named(tmp_path, container, name):
    path = container(tmp_path / "bad.heic", picture(1, 64, 64))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if name == "cut" else data[:64] + bytes(len(data) - 64))
    with pytest.raises(ImageError, match=r"bad.heic: the (HEIC|AVIF) cannot be decoded .*; replace or remove it"):
        read_photo(path)


FTYP = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_without_the_library_heic_has_one_finding_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    write_photos(tmp_path, SOUND)
    for number in range(3):
        (tmp_path / "cat" / f"IMG_{number}.HEIC").write_bytes(FTYP + bytes(100))
    with pytest.raises(
        DependencyError,
        match=r"reading HEIC needs pillow-heif; install it: python3 -m pip install \"edgeclf\[heif\]\", or convert",
    ):
        read_photo(tmp_path / "cat" / "IMG_0.HEIC")
    finding = only(check(tmp_path).findings, "unreadable")
    assert finding.message.startswith("3 images cannot be read yet; ")
    assert len(finding.files) == 3
    dataset, _ = check_for_training(load_dataset(tmp_path), skip_unreadable=True)
    assert len(dataset.samples) == len(SOUND)


def test_a_video_is_no_heic(tmp_path):
    path = tmp_path / "video.heic"
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(100))
    with pytest.raises(ImageError, match="not an image"):
        read_photo(path)


def test_the_golden_images_of_a_bundle_may_come_from_heic(tmp_path, container):
    from edgeclf.deployment import golden

    path = container(tmp_path / "1.heic", picture(2, 64, 64))
    run = SimpleNamespace(preprocessing=Preprocessing(32, 32))
    assert golden._picture(Sample(path, "cat"), run, 0, 4).shape[2] == 3
