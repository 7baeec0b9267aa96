"""Soft targets: read by path and label, checked line by line, and trained on."""

import numpy as np
import pytest

import edgeclf
from edgeclf.errors import DataError
from edgeclf.training.soft_targets_file import read_soft_targets
from tests.support.training import quick


@pytest.fixture(scope="module")
def dataset(digits):
    return edgeclf.load_dataset(digits)


def write(path, dataset, rows, header="path,3,8,5"):
    names = {"a": dataset.relative(dataset.split("train")[0]), "b": dataset.relative(dataset.split("train")[1])}
    path.write_text("\n".join([header, *(row.format(**names) for row in rows)]) + "\n")
    return path


def test_named_images_get_the_probabilities_and_others_their_label(dataset, tmp_path):
    samples = dataset.split("train")
    targets = read_soft_targets(write(tmp_path / "soft.csv", dataset, ["{a},0.2,0.7,0.1"]), dataset, samples)
    by_label = dict(zip(dataset.labels, targets[0].tolist(), strict=True))
    assert by_label == pytest.approx({"3": 0.2, "8": 0.7, "5": 0.1})
    assert (targets[1:].argmax(1) == [dataset.index(sample) for sample in samples[1:]]).all()
    assert set(np.unique(targets[1:])) == {0, 1}


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["{a},0.5,0.4,0.2"], "path,3,8,5", r"line 2: the probabilities sum to 1\.1; numbers from 0 with a sum of 1"),
        (["{a},0,0,1", "{b},2,-1,0"], "path,3,8,5", "line 3: the probabilities sum to 1; numbers from 0"),
        (["{a},0,half,1"], "path,3,8,5", "line 2: .* are not all numbers"),
        (["{a},0,1,0"], "path,3,8,cat", "line 1: the data has no label 'cat'; path and 3, 5, 8 were expected"),
        (["{a},0,1"], "path,3,8", "line 1: there is no column '5'"),
        (["{a},0,0,1", "{a},0,1,0"], "path,3,8,5", "line 3: the image .* is there twice"),
        (["elsewhere.png,0,0,1"], "path,3,8,5", "line 2: the data has no image 'elsewhere.png'"),
        ([], "path,3,8,5", "has none of the images of train"),
    ],
)
def test_a_line_that_is_wrong_is_named(dataset, tmp_path, rows, header, message):
    file = write(tmp_path / "soft.csv", dataset, rows, header)
    with pytest.raises(DataError, match=message):
        read_soft_targets(file, dataset, dataset.split("train"))


def test_a_head_learns_what_the_targets_say_instead_of_the_labels(digits, dataset, tmp_path):
    rows = [f"{dataset.relative(sample)},0,1,0" for sample in dataset.split("train")]
    file = write(tmp_path / "soft.csv", dataset, rows)
    report = edgeclf.train(digits, tmp_path / "run", quick(soft_targets=str(file), epochs=3, learning_rate=0.05))
    counts = [sample.label for sample in dataset.split("val")]
    assert report.history[-1]["val_accuracy"] == pytest.approx(counts.count("8") / len(counts), abs=1e-6)
