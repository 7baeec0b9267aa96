"""Foreign images: how many a model accepts, and how well its scores tell them from known ones."""

import csv
import json
import shutil

import numpy as np
import pytest

import edgeclf
from edgeclf.errors import DataError, ImageError, ModelError
from edgeclf.evaluation.open_model import open_model
from edgeclf.evaluation.rejection.answers import Answers
from edgeclf.evaluation.rejection.foreign_images import measure_foreign, separation
from edgeclf.evaluation.rejection.report import _charts
from edgeclf_runtime.classify.rejection import Rejection
from tests.support.html_pages import Page
from tests.support.photos import write_photos
from tests.support.sealing import reseal


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """Photographs of noise, loose and in folders."""
    names = ["0.png", *(f"a/{number}.png" for number in range(6)), *(f"a/b/{number}.png" for number in range(5))]
    return write_photos(tmp_path_factory.mktemp("strange"), names, width=64, height=64)


@pytest.fixture(scope="module")
def strict(bundle, tmp_path_factory):
    """The bundle with thresholds of distance and of one label, and with label sets."""
    path = shutil.copytree(bundle, tmp_path_factory.mktemp("strict") / "strict.edge")

    def thresholds(manifest):
        for model in manifest["models"]:
            model["known_images"]["most_distance"] = model["known_images"]["usual_distance"]
            model["label_thresholds"], model["in_set"] = {"3": 0.9}, 0.2

    reseal(path, thresholds)
    return path


def test_a_folder_of_noise_is_told_from_digits_by_the_distance(strict, digits, strange, tmp_path):
    found = edgeclf.evaluate(strict, digits, name="fp32", unknown=strange, report=tmp_path / "report")
    unknown = found.unknown
    assert (unknown.images, unknown.advice) == (12, "")
    assert unknown.distance.auroc > 0.95
    assert unknown.accepted.share == unknown.accepted_by_distance.share == unknown.distance.accepted.share == 0
    assert unknown.accepted.interval == pytest.approx((0, 0.2425), abs=1e-4)
    assert 0 <= unknown.confidence.auroc <= 1
    text = " ".join(str(found).split())
    assert "foreign images 12 foreign images that get a label 0.0000 95 % interval 0.0000 to 0.2425" in text
    assert f"AUROC of the distance {unknown.distance.auroc:.4f} foreign against known images" in text
    assert "AUROC of the distance" in found._repr_html_()
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["unknown"] == json.loads(found.to_json())["unknown"]
    assert facts["rejection"]["kept"] == json.loads(found.to_json())["kept"]
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert "Images by their distance" in page.words
    assert "Known images kept by foreign images accepted" in page.words


def test_each_row_of_predictions_has_the_reason_and_the_distance(strict, digits, tmp_path):
    found = edgeclf.evaluate(strict, digits, name="fp32", predictions=tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    reasons = [row["reason"] for row in rows]
    assert {reason: reasons.count(reason) for reason in set(reasons) - {""}} == found.kept.rejected
    assert all(np.isfinite(float(row["distance"])) for row in rows)
    assert {row["predicted"] for row in rows} <= {"3", "5", "8"}
    [first] = edgeclf.predict(strict, found.paths[0], name="fp32")
    assert first.result.distance == pytest.approx(float(rows[0]["distance"]), abs=0.05)


def test_a_model_without_a_distance_says_how_to_get_one(run, digits, strange):
    unknown = edgeclf.evaluate(run, digits, unknown=strange).unknown
    assert (unknown.distance, unknown.accepted) == (None, None)
    assert f"edgeclf bundle {run} --output NAME.edge --keep 0.95" in unknown.advice
    assert 0 <= unknown.confidence.auroc <= 1


def test_a_bundle_without_a_threshold_of_distance_says_how_to_get_one(bundle, digits, strange):
    unknown = edgeclf.evaluate(bundle, digits, name="fp32", unknown=strange).unknown
    assert unknown.distance.auroc > 0.95
    assert unknown.accepted is None
    assert "edgeclf bundle RUN --output NAME.edge --keep 0.95" in unknown.advice


def test_a_foreign_image_that_cannot_be_decoded_stops_or_is_counted(run, digits, strange, tmp_path):
    folder = shutil.copytree(strange, tmp_path / "strange")
    (folder / "bad.png").write_text("no image")
    with pytest.raises(ImageError, match=r"bad\.png: not an image.*--skip-unreadable"):
        edgeclf.evaluate(run, digits, unknown=folder)
    found = edgeclf.evaluate(run, digits, unknown=folder, skip_unreadable=True)
    assert (found.unknown.images, found.unknown.unreadable) == (12, 1)
    assert "left out: 1 foreign image that cannot be decoded" in str(found)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "--unknown: .* does not exist; a folder of images that are of none of the labels was expected"),
        ([], "--unknown: .* holds no images"),
        (["notes.gif"], r"holds no images; .* 1 file left out, by suffix: \.gif \(1\)"),
    ],
)
def test_a_folder_without_images_is_refused(run, digits, tmp_path, files, message):
    folder = tmp_path / "strange"
    if files is not None:
        write_photos(folder, files)
        folder.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=message):
        edgeclf.evaluate(run, digits, unknown=folder)


def test_the_evaluated_images_are_not_foreign(run, digits):
    with pytest.raises(DataError, match=r"45 of the 180 images in .* are among the evaluated images, the first: "):
        edgeclf.evaluate(run, digits, unknown=digits)


def test_folders_with_names_of_labels_are_warned_of(run, digits, tmp_path, command):
    write_photos(tmp_path / "strange", ["3/0.png", "hands/0.png", "8/0.png"])
    code, out, err = command("evaluate", run, digits, "--unknown", tmp_path / "strange")
    assert (code, "foreign images" in out) == (0, True)
    assert "has folders with the names of labels (3, 8)" in err


def test_the_threshold_keeps_95_of_100_known_images():
    found = separation(np.arange(100.0), np.array([0.0, 94.0, 94.5, np.inf]))
    assert found.accepted.share == 0.5
    assert found.auroc == pytest.approx((0.5 + 94.5 + 95 + 100) / 400)


def test_logits_that_are_not_finite_are_refused(run):
    good = Answers(np.eye(3, dtype=np.float32), None, 1.0, Rejection())
    bad = Answers(np.full((3, 3), np.nan, np.float32), None, 1.0, Rejection())
    with (
        open_model(run) as opened,
        pytest.raises(ModelError, match="logits of fp32 are not finite for some foreign images"),
    ):
        measure_foreign(None, good, bad, opened)


def test_infinite_distances_are_drawn_in_the_last_bin():
    known, foreign = (
        Answers(np.eye(3, dtype=np.float32), np.array(distances, np.float32), 1.0, Rejection(most_distance=2.0))
        for distances in ((0, 1, np.inf), (1.5, np.inf, np.inf))
    )
    histogram, curves = _charts(known, foreign)
    assert [line.points[-1][1] for line in histogram.lines] == pytest.approx([1 / 3, 2 / 3])
    assert curves.lines[0].points[-1] == (1.0, 1.0)
