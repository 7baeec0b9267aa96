"""Features and thumbnails that a second audit finds in the cache folder."""

import os
import shutil

import numpy as np
import pytest

from edgeclf.evaluation.audit import feature_store
from edgeclf.evaluation.audit.feature_store import FeatureStore
from edgeclf.evaluation.bulk import image_cache
from edgeclf.evaluation.bulk.image_cache import trim
from edgeclf.graph import inference
from edgeclf.training.backbones import create
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from tests.support.photos import write_photos

SPEC = Preprocessing(32, 32, resize="crop").check()


@pytest.fixture(scope="module")
def network():
    return create("mobilenetv3_small_050", 2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = write_photos(tmp_path_factory.mktemp("store") / "photos", [f"{number}.png" for number in range(5)])
    return {sha256_file(path): path for path in sorted(root.iterdir())}


@pytest.fixture(scope="module")
def computed(network, photos, tmp_path_factory):
    """The facts of the photographs, and the cache folder; read only."""
    cache = tmp_path_factory.mktemp("store") / "cache"
    return FeatureStore(network, SPEC, cache).recall(photos)[0], cache


@pytest.fixture
def cache(computed, tmp_path):
    return shutil.copytree(computed[1], tmp_path / "cache")


def test_what_was_computed_once_is_read_from_the_cache(network, photos, computed, cache):
    found, _ = computed
    gone = {digest: path.with_name("gone.png") for digest, path in photos.items()}
    again, problems = FeatureStore(network, SPEC, cache).recall(gone)
    assert not problems
    for digest, facts in found.items():
        assert np.array_equal(facts.features, again[digest].features)
        assert np.array_equal(facts.thumbnail.gray, again[digest].thumbnail.gray)
        assert np.array_equal(facts.thumbnail.color, again[digest].thumbnail.color)
        assert (again[digest].width, again[digest].height) == (32, 32)


def test_another_input_or_network_has_features_of_its_own(network, photos, cache):
    gone = {digest: path.with_name("gone.png") for digest, path in photos.items()}
    other = create("mobilenetv3_small_050", 2)
    for store in (FeatureStore(network, SPEC._replace(resize="stretch"), cache), FeatureStore(other, SPEC, cache)):
        found, problems = store.recall(gone)
        assert not found
        assert set(problems) == set(photos)


def test_the_head_does_not_matter(network, photos, cache):
    gone = {digest: path.with_name("gone.png") for digest, path in photos.items()}
    network.head.bias.data += 1
    assert set(FeatureStore(network, SPEC, cache).recall(gone)[0]) == set(photos)


def test_a_damaged_file_is_computed_again(network, photos, cache, capfd):
    from edgeclf.display import progress

    [file] = cache.glob("*/*.npz")
    file.write_bytes(file.read_bytes()[:300])
    progress.show_progress()
    found, _ = FeatureStore(network, SPEC, cache).recall(photos)
    progress.show_progress(False)
    assert set(found) == set(photos)
    assert "is ignored" in capfd.readouterr().err


def test_an_image_that_cannot_be_decoded_has_a_problem(network, photos, cache, tmp_path):
    torn = tmp_path / "torn.png"
    torn.write_bytes(next(iter(photos.values())).read_bytes()[:50])
    found, problems = FeatureStore(network, SPEC, cache).recall({**photos, "f" * 64: torn})
    assert len(found) == 5
    assert list(problems) == ["f" * 64]
    assert "torn.png" in problems["f" * 64]


def test_many_images_are_in_several_files(network, photos, computed, tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "IMAGES_OF_A_FILE", 2)
    found, _ = FeatureStore(network, SPEC, tmp_path / "cache").recall(photos)
    whole, _ = computed
    assert len(list((tmp_path / "cache").glob("*/*.npz"))) == 3
    assert list(found) == list(photos)
    for digest in photos:
        assert np.allclose(found[digest].features, whole[digest].features, atol=1e-5)


def test_the_files_that_were_not_used_for_the_longest_time_are_removed(tmp_path):
    (tmp_path / "key").mkdir()
    for number, name in enumerate(("old", "new", "middle")):
        path = tmp_path / "key" / f"{name}.npz"
        path.write_bytes(bytes(100))
        os.utime(path, (1, (10, 30, 20)[number]))
    trim(tmp_path, 250)
    assert sorted(path.stem for path in tmp_path.glob("*/*.npz")) == ["middle", "new"]


def test_a_folder_that_cannot_be_written_keeps_nothing(network, photos, tmp_path):
    (tmp_path / "cache").write_text("a file")
    found, _ = FeatureStore(network, SPEC, tmp_path / "cache").recall(photos)
    assert set(found) == set(photos)


def test_an_interrupted_audit_keeps_what_it_has_computed(network, photos, tmp_path, monkeypatch):
    last, decode = list(photos.values())[-1], feature_store.read_photo

    def interrupted(path):
        if path == last:
            raise KeyboardInterrupt
        return decode(path)

    monkeypatch.setattr(feature_store, "read_photo", interrupted)
    monkeypatch.setattr(inference, "cores", lambda: 1)  # two images are under way
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(network, SPEC, tmp_path / "cache").recall(photos)
    gone = {digest: path.with_name("gone.png") for digest, path in photos.items()}
    monkeypatch.undo()
    assert list(FeatureStore(network, SPEC, tmp_path / "cache").recall(gone)[0]) == list(photos)[:2]
