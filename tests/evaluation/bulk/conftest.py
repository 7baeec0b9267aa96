"""Bulk work in this process, with few images in a part, so that no test waits for others to start."""

import pytest

from edgeclf.evaluation.bulk import bulk_predict, part, unfinished


@pytest.fixture
def here(monkeypatch):
    """The parts that this process classifies, 25 images each, in order."""
    classified = []

    def engine(work, parts, workers):
        for one in parts:
            list(part.classify_part(work.path, one))
            classified.append(one)
            yield one

    monkeypatch.setitem(bulk_predict._ENGINES, "local", engine)
    monkeypatch.setattr(unfinished, "IMAGES_OF_A_PART", 25)
    return classified


@pytest.fixture
def model(run):
    return run / "model.fp32.onnx"
