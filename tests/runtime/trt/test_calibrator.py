"""INT8 with a calibrator: its answers to TensorRT, which the test plays."""

import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.trt import cuda
from edgeclf_runtime.trt.calibrator import cache_for, data_sha256, make_calibrator
from tests.support.gpus import array_at, make_cudart

SPEC = Preprocessing(8, 8)
LINES = "image: 40008912\nname with: colon: 3c008912\n"
TRT = SimpleNamespace(IInt8EntropyCalibrator2=type("Base", (), {"__init__": lambda self: None}))


@pytest.fixture
def cache(tmp_path):
    path = tmp_path / "calibration.cache"
    path.write_text("TRT-8502-EntropyCalibration2\n" + LINES)
    return str(path)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return make_cudart(tmp_path_factory.mktemp("cuda"))


@pytest.fixture
def gpu(library, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setattr(cuda, "_library_paths", lambda: [library])


@pytest.mark.parametrize(
    ("version", "number"), [((8, 2, 1, 8), 8201), ((8, 5, 2), 8502), ((8, 6, 1), 8601), ((10, 3, 0, 26), 100300)]
)
def test_the_caches_first_line_is_that_of_the_version_that_reads_it(cache, version, number):
    calibrator = make_calibrator(TRT, version, cache, SPEC)
    assert calibrator.read_calibration_cache() == f"TRT-{number}-EntropyCalibration2\n{LINES}".encode()
    # TensorRT asks for no image then; were it to, there would be none.
    assert calibrator.get_batch(["image"]) is None
    calibrator.close()


def test_the_bundles_own_cache_is_one(bundle):
    lines = cache_for(str(bundle / "calibration.cache"), (10, 3, 0)).decode().splitlines()
    scales = [struct.unpack("!f", bytes.fromhex(line.rpartition(": ")[2]))[0] for line in lines[1:]]
    assert len(scales) > 50
    assert all(0 < scale < 1e4 for scale in scales)


@pytest.mark.parametrize("text", ["", "hello", "TRT-8502-MinMaxCalibration\nimage: 3c008912\n", LINES])
def test_a_file_that_is_not_a_calibration_cache_is_refused(tmp_path, text):
    path = tmp_path / "calibration.cache"
    path.write_text(text)
    with pytest.raises(
        BackendError, match=r"calibration.cache is not a calibration cache: it begins with .*make the bundle"
    ):
        cache_for(str(path), (8, 6, 1))


def test_images_go_to_the_gpu_one_by_one_as_the_model_sees_them(gpu, photos):
    calibrator = make_calibrator(TRT, (8, 2, 1), str(photos), tuple(SPEC))
    assert calibrator.read_calibration_cache() is None
    assert calibrator.get_batch_size() == 1
    expected = [as_batch([preprocess(read_image(str(path)), SPEC)]) for path in sorted(photos.iterdir())]
    for batch in expected:
        (address,) = calibrator.get_batch(["image"])
        np.testing.assert_array_equal(array_at(address, (1, 8, 8, 3)), batch)
    assert calibrator.get_batch(["image"]) is None
    assert calibrator.error is None
    calibrator.close()


def test_a_folder_without_images_is_refused_since_nothing_is_ever_made_up(tmp_path):
    with pytest.raises(
        BackendError, match=r"holds no images to calibrate with; give --calibration a folder of real ones"
    ):
        make_calibrator(TRT, (8, 2, 1), str(tmp_path), tuple(SPEC))


def test_an_image_that_cannot_be_read_ends_the_calibration_and_is_named(gpu, photos):
    (photos / "a.png").write_bytes(b"no image")
    calibrator = make_calibrator(TRT, (8, 2, 1), str(photos), tuple(SPEC))
    assert calibrator.get_batch(["image"]) is None
    assert "a.png" in str(calibrator.error)
    calibrator.close()


def test_the_hash_is_that_of_the_images_whatever_their_names(photos, cache):
    before = data_sha256(str(photos))
    (photos / "plain.png").rename(photos / "other.png")
    assert data_sha256(str(photos)) == before != data_sha256(cache)
    (photos / "other.png").unlink()
    assert data_sha256(str(photos)) != before
