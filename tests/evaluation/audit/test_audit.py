"""An audit of scikit-learn's digits, some under a wrong label, with all that a folder of photographs may have besides."""

import csv
import json
import random
import shutil

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.errors import DataError, ModelError, OutputError, WeightsError
from tests.conftest import write_digits

SIZE = 64
RENAMED = "<script>alert(1)</script>".replace("/", "_")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits as PNG files; a name that begins with "moved" is under a wrong label."""
    root = tmp_path_factory.mktemp("photos") / "digits"
    write_digits(root)
    for label, other in (("3", "5"), ("5", "8"), ("8", "3")):
        for number in (5, 20, 35, 50):
            (root / label / f"{number:03}.png").rename(root / other / f"moved{label}_{number:03}.png")
    (root / "8").rename(root / RENAMED)
    shutil.copy(root / "3" / "000.png", root / "5" / "copy.png")
    (root / "3" / "torn.png").write_bytes((root / "3" / "001.png").read_bytes()[:60])
    cv2.imwrite(str(root / "5" / "small.png"), cv2.resize(cv2.imread(str(root / "5" / "001.png")), (40, 40)))
    (root / "rare").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    cv2.imwrite(str(root / "rare" / "only.png"), noise)
    return root


@pytest.fixture(scope="module")
def audited(photos, tmp_path_factory):
    """The report of an audit, and its folder."""
    folder = tmp_path_factory.mktemp("audit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        report = edgeclf.audit(photos, folder / "out", image_size=SIZE)
        yield report, folder / "out"


def lines(folder):
    with (folder / "exclude.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_wrong_labels_are_found(audited):
    report, _ = audited
    moved = [one for one in report.wrong_labels if "moved" in one.path]
    assert len(moved) >= 5
    assert len(report.wrong_labels) <= 2 * len(moved)
    right = [one for one in moved if f"moved{one.suggested_label.replace(RENAMED, '8')}_" in one.path]
    assert len(right) >= 4


def test_an_audit_is_no_data_set(audited):
    with pytest.raises(DataError, match=r"out is an output of edgeclf \(it has audit\.json\)"):
        edgeclf.load_dataset(audited[1])


def test_weights_may_be_downloaded_if_that_is_asked_for(photos, tmp_path, monkeypatch):
    asked = []

    def find(backbone, weights, download):
        asked.append((backbone, weights, download))
        raise WeightsError("none here")

    monkeypatch.setattr("edgeclf.training.weights.sources.find_weights", find)
    with pytest.raises(WeightsError):
        edgeclf.audit(photos, tmp_path / "audit", backbone="resnet18", download=True)
    assert asked == [("resnet18", "imagenet", True)]


def test_each_finding_says_its_split(audited, photos):
    report, _ = audited
    dataset = edgeclf.load_dataset(photos)
    splits = {dataset.relative(sample): sample.split for sample in dataset.samples}
    groups = [one for group in (*report.conflicts, *report.duplicates) for one in group]
    every = (*report.wrong_labels, *report.outliers, *report.small, *report.unreadable, *groups)
    assert len(every) > 12
    assert all(one.split == splits[one.path] for one in every)


def test_test_images_are_reported_but_not_excluded(audited):
    report, folder = audited
    tested = {one.path for one in report.wrong_labels if one.split == "test"}
    assert tested
    assert not tested & {row["path"] for row in lines(folder)}
    assert {one.path for one in report.wrong_labels} - tested <= {row["path"] for row in lines(folder)}


def test_a_copy_under_another_label_is_a_conflict(audited):
    report, _ = audited
    assert ("3/000.png", "5/copy.png") in [tuple(one.path for one in group) for group in report.conflicts]


def test_a_label_with_one_image_is_not_judged(audited):
    report, _ = audited
    assert report.not_judged == {"rare": 1}
    assert "rare/only.png" not in {one.path for one in report.wrong_labels}


def test_files_that_are_torn_or_small_are_named(audited):
    report, folder = audited
    assert [one.path for one in report.unreadable] == ["3/torn.png"]
    assert {"path": "3/torn.png", "reason": "unreadable", "label": "3"}.items() <= lines(folder)[0].items()
    assert [(one.path, one.problem) for one in report.small] == [("5/small.png", "40 x 40")]


def test_names_of_labels_are_text_on_the_page(audited):
    _, folder = audited
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert page.count("data:image/jpeg") > 8
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def test_the_json_is_the_report(audited):
    report, folder = audited
    facts = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert facts.pop("format") == "edgeclf-audit"
    assert facts.pop("format_version") == 1
    assert facts == json.loads(report.to_json())


def test_the_text_fits_a_terminal(audited):
    report, _ = audited
    findings = str(report).splitlines()
    assert all(len(line) <= 80 for line in findings if line.startswith("  ")), findings
    assert "likely wrong labels: " in str(report)


def test_a_second_audit_decodes_nothing(audited, photos, tmp_path, monkeypatch):
    # Only hashes are read: pictures for the page come from the files, but facts do not.
    from edgeclf.evaluation.audit import feature_store

    report, _ = audited
    decoded = []
    monkeypatch.setattr(
        feature_store,
        "read_photo",
        lambda path: decoded.append(path.name) or (_ for _ in ()).throw(edgeclf.ImageError(f"{path}: torn")),
    )
    again = edgeclf.audit(photos, tmp_path / "again", image_size=SIZE)
    assert decoded == ["torn.png"]
    assert again.wrong_labels == report.wrong_labels
    assert again.outliers == report.outliers


def test_labels_of_test_images_decide_nothing(audited, photos, tmp_path):
    report, _ = audited
    dataset = edgeclf.load_dataset(photos)
    rng = random.Random(1)
    samples = [
        edgeclf.Sample(one.path, rng.choice(["3", "5"]) if one.split == "test" else one.label, one.split)
        for one in dataset.samples
    ]
    shuffled = edgeclf.Dataset(dataset.name, dataset.root, dataset.labels, tuple(samples))
    other = edgeclf.audit(shuffled, tmp_path / "out", image_size=SIZE)
    learned = [
        [(one.path, one.suggested_label, one.probability) for one in each.wrong_labels if one.split != "test"]
        for each in (report, other)
    ]
    assert learned[0] == learned[1]
    assert report.confused == other.confused


def test_training_leaves_out_what_is_listed(audited, photos, tmp_path):
    _, folder = audited
    # A label with one image cannot be trained; as an outlier, it may be listed.
    rare = photos / "rare/only.png"
    excluded = {row["path"] for row in lines(folder)} - {"rare/only.png"}
    without_rare = edgeclf.load_dataset(photos).without({rare})
    dataset = edgeclf.Dataset(str(photos), photos, ("3", "5", RENAMED), without_rare.samples)
    run = tmp_path / "run"
    edgeclf.train(dataset, run, image_size=32, epochs=1, exclude=str(folder / "exclude.csv"))
    with (run / "split.csv").open(newline="", encoding="utf-8") as stream:
        kept = {row["path"]: row["split"] for row in csv.DictReader(stream)}
    assert not excluded & set(kept)
    assert kept == {
        dataset.relative(one): one.split for one in dataset.samples if dataset.relative(one) not in excluded
    }
    assert f"{len(excluded)} images left out" in (run / "run.json").read_text(encoding="utf-8")


def test_the_run_says_with_which_network_and_split(run, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = edgeclf.audit(digits, tmp_path / "out", model=str(run))
    recorded = edgeclf.read_run(run)
    assert report.network == str(run)
    assert report.image_size == recorded.preprocessing.width
    assert report.images == recorded.facts["data"]["images"]
    assert report.labels == recorded.labels


def test_images_keep_the_split_of_a_run(run, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counts = edgeclf.read_run(run).dataset().counts()
    report = edgeclf.audit(digits, tmp_path / "out", image_size=SIZE, split_of=str(run))
    assert report.images == counts != edgeclf.load_dataset(digits).counts()


def test_what_cannot_be_audited_is_refused(digits, tmp_path):
    with pytest.raises(DataError, match="has one label, '3'; an audit needs two or more"):
        edgeclf.audit(edgeclf.load_dataset(one_label(digits, tmp_path)), tmp_path / "out")
    with pytest.raises(ModelError, match="is not a run"):
        edgeclf.audit(digits, tmp_path / "out", model=str(digits))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(OutputError, match=r"has no audit\.json, so edgeclf did not create it"):
        edgeclf.audit(digits, tmp_path / "mine", overwrite=True)


def one_label(digits, folder):
    return shutil.copytree(digits / "3", folder / "one" / "3").parent


def test_an_audit_without_anything_to_leave_out_suggests_training(photos, tmp_path, command, monkeypatch):
    monkeypatch.setattr("edgeclf.evaluation.audit.audit._exclusions", lambda report: [])
    code, _, err = command("audit", photos, "--image-size", SIZE, "--output", tmp_path / "out")
    assert (code, err.splitlines()[-1]) == (0, f"next: edgeclf train {photos} --output runs/first")


def test_the_command_suggests_training_without_them(audited, photos, tmp_path, command):
    code, out, err = command("audit", photos, "--image-size", SIZE, "--output", tmp_path / "out")
    assert code == 0
    assert "likely wrong labels" in out
    assert f"next: edgeclf train {photos} --exclude {tmp_path / 'out' / 'exclude.csv'} --output runs/first" in err
    code, out, _ = command("audit", photos, "--image-size", SIZE, "--output", tmp_path / "out", "--overwrite", "--json")
    assert code == 0
    assert json.loads(out)["excluded"] == len(lines(tmp_path / "out"))
