import numpy as np
import pytest

from edgeclf.calibration.sets import CalibrationSet
from edgeclf.display.progress import show_progress
from edgeclf.graph.prepare import prepare
from edgeclf.quantization.histogram_store import HISTOGRAM_FILE, HistogramStore
from edgeclf.quantization.inputs import histogram_key
from edgeclf.training.runs import read_run


@pytest.fixture
def recall(own_run):
    """Recall the histograms of a run with a set of a size, and keep them; ``own_run`` has been quantized with 60 images."""

    def call(size, batches=None):
        run = read_run(own_run)
        chosen = CalibrationSet.select(run.dataset(), size)
        source = run.file("model.fp32.onnx")
        store = HistogramStore(own_run / HISTOGRAM_FILE, histogram_key(source, chosen, run.preprocessing))
        images = chosen.batches(run.preprocessing) if batches is None else batches
        histograms = store.recall(prepare(source), images)
        store.keep(histograms)
        return histograms

    return call


@pytest.fixture
def told(capsys):
    show_progress()
    yield lambda: capsys.readouterr().err
    show_progress(False)


@pytest.mark.slow
def test_what_was_collected_from_the_same_things_is_used_again(own_run, recall):
    before = (own_run / HISTOGRAM_FILE).read_bytes()
    kept = recall(60, batches=[])
    assert (own_run / HISTOGRAM_FILE).read_bytes() == before
    (own_run / HISTOGRAM_FILE).unlink()
    new = recall(60)
    assert set(kept) == set(new)
    for name, histogram in new.items():
        assert (kept[name].low, kept[name].high, kept[name].exponent) == (
            histogram.low,
            histogram.high,
            histogram.exponent,
        )
        assert np.array_equal(kept[name].counts, histogram.counts)


def test_another_calibration_set_is_named_and_collected_anew(own_run, recall, told):
    before = (own_run / HISTOGRAM_FILE).read_bytes()
    recall(8)
    assert "is ignored (made from another calibration set); collecting activations again" in told()
    assert (own_run / HISTOGRAM_FILE).read_bytes() != before


@pytest.mark.slow
def test_another_model_is_named(own_run, recall, told):
    path = own_run / "model.fp32.onnx"
    path.write_bytes(path.read_bytes() + b"\x72\x00")  # an empty field: another file, the same model
    recall(60)
    assert "is ignored (made from another model);" in told()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no more", None])
def test_a_damaged_file_is_collected_anew(own_run, recall, told, damage):
    path = own_run / HISTOGRAM_FILE
    path.write_bytes(path.read_bytes()[:-300] if damage is None else damage)
    assert "image" in recall(8)
    assert "is ignored (it cannot be read: " in told()
