"""Ray computes of labeled images what this machine computes without it."""

import shutil
from importlib.util import find_spec

import pytest

import edgeclf
from edgeclf.errors import ImageError
from tests.support.photos import write_photos

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason='Ray is not installed (python3 -m pip install "edgeclf[ray]")'),
]


@pytest.fixture(scope="module", autouse=True)
def started():
    """A Ray that all tests use, since each start takes seconds."""
    from edgeclf.evaluation.bulk.ray_engine import _session

    with _session(2):
        yield


@pytest.fixture
def with_each(monkeypatch, tmp_path):
    """Call a function with each engine, none of which finds what the other has kept."""
    from edgeclf.evaluation.bulk import ray_engine

    monkeypatch.setattr(ray_engine, "IMAGES_OF_A_PART", 10)

    def call(function):
        for engine in ("local", "ray"):
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / engine))
            yield function(engine)

    return call


def test_an_evaluation_is_the_same(bundle, digits, tmp_path, with_each):
    foreign = write_photos(tmp_path / "foreign", ["a.png", "b.png", "c.png"])
    here, there = with_each(lambda engine: edgeclf.evaluate(bundle, digits, unknown=str(foreign), engine=engine))
    assert here.unknown.images == 3
    assert here.to_dict() == there.to_dict()
    assert here.logits.tobytes() == there.logits.tobytes()


def test_an_audit_is_the_same(run, digits, tmp_path, with_each):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "000.png").write_bytes(b"no image")
    output = tmp_path / "audit"
    here, there = with_each(lambda engine: edgeclf.audit(photos, output, model=str(run), engine=engine, overwrite=True))
    assert len(there.unreadable) == 1
    assert here == there


def test_an_image_that_cannot_be_decoded_is_the_same_error(model, digits, tmp_path, with_each):
    photos = shutil.copytree(digits, tmp_path / "photos")
    (photos / "3" / "000.png").write_bytes(b"no image")

    def error(engine):
        with pytest.raises(ImageError, match=r"000\.png.*--skip-unreadable") as raised:
            edgeclf.evaluate(model, photos, split="all", engine=engine)
        return str(raised.value)

    assert len(set(with_each(error))) == 1
