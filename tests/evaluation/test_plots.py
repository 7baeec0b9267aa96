"""Plots show what was measured."""

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.errors import OutputError
from edgeclf.evaluation import plots


@pytest.fixture
def drawn(monkeypatch):
    """The text in the last saved figure."""
    from matplotlib.text import Text

    words = []
    save = plots._save

    def keep(figure, path):
        words[:] = [text.get_text() for text in figure.findobj(Text)]
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return words


def test_confusions_show_every_count_and_the_accuracy(run, digits, tmp_path, drawn):
    evaluation = edgeclf.evaluate(run / "model.fp32.onnx", digits)
    plots.plot_confusion({"FP32": evaluation, "again": evaluation}, tmp_path / "confusion.png")
    height, width, _ = cv2.imread(str(tmp_path / "confusion.png")).shape
    assert width > 1.5 * height
    assert f"FP32: accuracy {evaluation.accuracy:.2%}, 45 images" in drawn
    counts = [int(word.split("\n")[0]) for word in drawn if "\n" in word]
    assert sum(counts) == 2 * 45


def test_latencies_show_each_model_and_its_percentiles(tmp_path, drawn):
    samples = {"fp32": list(np.linspace(10, 20, 101)), "int8": list(np.linspace(5, 15, 101))}
    plots.plot_latency(samples, tmp_path / "latency.png")
    assert cv2.imread(str(tmp_path / "latency.png")) is not None
    assert "fp32: p50 15.0 ms, p99 19.9 ms" in drawn
    assert "int8: p50 10.0 ms, p99 14.9 ms" in drawn


def test_a_picture_that_finds_no_room_says_so(small_disk):
    folder = small_disk("64k")
    (folder / "filler").write_bytes(bytes(50_000))
    with pytest.raises(OutputError, match=r"latency\.png cannot be written \(No space left on device\)"):
        plots.plot_latency({"fp32": [1.0, 2.0, 3.0]}, folder / "latency.png")
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_labels_are_shown_as_they_are_written(run, digits, tmp_path, drawn):
    from dataclasses import replace

    evaluation = replace(edgeclf.evaluate(run / "model.fp32.onnx", digits), labels=(r"$\cat$", "été", "a_b^c"))
    plots.plot_confusion({"FP32": evaluation}, tmp_path / "confusion.png")
    assert {r"$\cat$", "été", "a_b^c"} <= set(drawn)
