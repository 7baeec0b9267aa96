"""Reading a run: whole, or refused with the fix."""

import json
import shutil

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.data.checks import near_duplicates
from edgeclf.data.datasets import load_dataset
from edgeclf.data.findings import count_files
from edgeclf.display import progress
from edgeclf.errors import DataError, ModelError, WeightsError
from edgeclf.options import SplitOptions, TrainOptions
from edgeclf.training.runs import read_run
from edgeclf.training.train import _write_run
from tests.support.photos import write_photos


@pytest.fixture
def damaged(run, tmp_path):
    """A copy of the run to damage."""
    return shutil.copytree(run, tmp_path / "run")


def edit(run, change):
    facts = json.loads((run / "run.json").read_text())
    change(facts)
    (run / "run.json").write_text(json.dumps(facts))


def test_a_run_gives_back_its_labels_preprocessing_and_images_as_they_were_divided(run, digits):
    read, trained_on = read_run(run), load_dataset(digits, SplitOptions(method="exact"))
    assert read.labels == ("3", "5", "8")
    assert (read.preprocessing.width, read.preprocessing.height) == (64, 64)
    assert read.dataset().samples == trained_on.samples
    assert read.dataset().divided_by == trained_on.divided_by


def test_a_run_remembers_the_hash_of_each_image(run, digits):
    dataset = read_run(run).dataset()
    trained_on = load_dataset(digits)
    assert dataset.sha256(dataset.samples) == trained_on.sha256(trained_on.samples)


def test_a_run_gives_back_the_network_that_was_trained(run, digits):
    import torch

    from edgeclf.evaluation.open_model import open_model

    with open_model(run / "model.fp32.onnx") as exported, torch.inference_mode():
        batch = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.float32)
        logits = read_run(run).network()(torch.from_numpy(batch)).numpy()
        assert np.abs(logits - exported.classifier.runner.infer(batch)).max() < 1e-3


def test_a_network_that_shares_weights_is_written_and_read(usual_run, tmp_path):
    import torch

    damaged = shutil.copytree(usual_run, tmp_path / "run")
    read = read_run(damaged)
    network = read.network()
    blocks = network.backbone.blocks[3]
    blocks[1].conv_pw.weight = blocks[2].conv_pw.weight
    _write_run(damaged, read.facts, [{"epoch": 1.0}], network, TrainOptions())
    image = torch.rand(1, 64, 64, 3) * 255
    assert torch.equal(read_run(damaged).network().eval()(image), network.eval()(image))


def test_a_folder_that_is_no_run_is_told_how_to_make_one(tmp_path):
    with pytest.raises(ModelError, match=r"is not a run \(it has no run.json\); make one with: edgeclf train DATA"):
        read_run(tmp_path)


def test_a_run_of_a_newer_format_says_upgrade(damaged):
    edit(damaged, lambda facts: facts.update(format_version=99))
    with pytest.raises(ModelError, match=r"edgeclf-run 99; this edgeclf reads edgeclf-run 1: upgrade edgeclf"):
        read_run(damaged)


@pytest.mark.parametrize("field", ["format", "labels", "preprocessing", "options", "data"])
def test_a_run_that_lacks_a_field_is_damaged(damaged, field):
    edit(damaged, lambda facts: facts.pop(field))
    with pytest.raises(ModelError, match=rf"run.json is damaged \(the field '{field}' is missing\); train again"):
        read_run(damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_run_whose_facts_are_no_facts_is_damaged(damaged, text):
    (damaged / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run.json is damaged .*; train again"):
        read_run(damaged)


def test_a_file_that_is_missing_says_which_command_makes_it(damaged):
    for name, command in (("model.fp32.onnx", "export"), ("model.int8-cpu.onnx", "quantize")):
        (damaged / name).unlink()
        with pytest.raises(ModelError, match=rf"has no {name}; make it with: edgeclf {command} {damaged}"):
            read_run(damaged).file(name)


def test_weights_that_were_cut_off_are_refused(damaged):
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=r"model.safetensors is damaged"):
        read_run(damaged).network()


def test_weights_of_another_run_are_refused(damaged):
    edit(damaged, lambda facts: facts.update(labels=["3", "5"]))
    with pytest.raises(WeightsError, match=r"model.safetensors does not fit its run .*; train again"):
        read_run(damaged).network()


def test_images_that_are_all_gone_say_what_to_do(damaged):
    edit(damaged, lambda facts: facts["data"].update(root="/nowhere"))
    with pytest.raises(
        DataError,
        match=r"180 of the 180 images .* are gone, first /nowhere/3/000.png: .* name the folder .* with --data",
    ):
        read_run(damaged).dataset()


def test_a_few_images_that_are_gone_are_counted_once_and_left_out(damaged, digits, tmp_path):
    moved = shutil.copytree(digits, tmp_path / "moved")
    edit(damaged, lambda facts: facts["data"].update(root=str(moved)))
    for number in range(7):
        (moved / "3" / f"{number:03d}.png").unlink()
    found = read_run(damaged).dataset()
    [finding] = found.findings
    assert len(found.samples) == 173
    assert finding.message.startswith(f"7 of the 180 images of {damaged} are gone, first {moved}/3/000.png")


def facts_of(dataset):
    hashes = dataset.sha256(dataset.samples)
    return sorted((digest, one.label, one.split) for digest, one in zip(hashes, dataset.samples, strict=True))


def test_images_are_found_by_content_whatever_they_are_called_now(damaged, digits, tmp_path):
    for number, path in enumerate(sorted(digits.rglob("*.png"))):
        folder = tmp_path / "moved" / ("rest" if number % 2 else "more")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{number}.png")
    shutil.copy(digits / "3" / "000.png", tmp_path / "moved" / "copy.png")
    cv2.imwrite(str(tmp_path / "moved" / "rest" / "new.png"), np.zeros((9, 9, 3), np.uint8))
    before, after = read_run(damaged).dataset(), read_run(damaged).dataset(tmp_path / "moved")
    assert facts_of(before) == facts_of(after)
    assert [finding.message for finding in after.findings] == [
        f"1 image of {tmp_path / 'moved'} left out: not among those of {damaged}"
    ]


def test_moved_images_are_not_divided_again_and_keep_their_splits(damaged, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "joined_keys", pytest.fail)  # takes minutes on a large folder
    edit(
        damaged,
        lambda facts: facts["data"].update(
            split={"seed": 0, "test": 0.2, "val": 0.2, "method": "stable", "group_by": None, "group_similar": True}
        ),
    )
    moved = shutil.copytree(digits, tmp_path / "moved")
    assert facts_of(read_run(damaged).dataset(moved)) == facts_of(read_run(damaged).dataset())


def test_a_folder_with_none_of_the_images_is_refused_unless_new_ones_are_meant(damaged, tmp_path):
    write_photos(tmp_path / "new", ("3/a.png", "5/a.png"))
    with pytest.raises(DataError, match=r"new has none of the 180 images of .*, which are recognized by their content"):
        read_run(damaged).dataset(tmp_path / "new")
    found = read_run(damaged).dataset(tmp_path / "new", accept_new=True)
    assert [sample.split for sample in found.samples] == ["val", "val"]
    trained = next(sample.path for sample in read_run(damaged).dataset().split("train") if sample.label == "8")
    shutil.copy(trained, tmp_path / "new" / "5")
    found = read_run(damaged).dataset(tmp_path / "new", accept_new=True)
    assert sorted((sample.label, sample.split) for sample in found.samples) == [
        ("3", "val"),
        ("5", "val"),
        ("8", "train"),
    ]


def test_a_label_that_lost_all_its_images_of_a_split_stops_a_step_that_needs_them(damaged, digits, tmp_path):
    kept = tmp_path / "kept"
    for sample in read_run(damaged).dataset().samples:
        if (sample.split, sample.label) != ("val", "5"):
            (kept / sample.label).mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, kept / sample.label)
    assert read_run(damaged).dataset(kept, needs=("train",)).samples
    with pytest.raises(
        DataError, match=r"no image of the label '5' is left in val of .*, which this step needs: .*--data"
    ):
        read_run(damaged).dataset(kept, needs=("val",))


def test_images_that_went_bad_are_left_out_if_that_is_asked_for(damaged, digits, tmp_path):
    moved = shutil.copytree(digits, tmp_path / "moved")
    edit(damaged, lambda facts: facts["data"].update(root=str(moved)))
    (moved / "3" / "000.png").write_bytes(b"no image")
    found = read_run(damaged).dataset(skip_unreadable=True)
    assert (len(found.samples), count_files(found.findings, "unreadable")) == (179, 1)


def test_images_that_change_sides_against_the_run_to_replace_are_counted(run, digits, tmp_path, capfd):
    """Its split is exact; that of new data is by hash."""
    shutil.copytree(run, tmp_path / "run")
    nothing = {"weights": str(tmp_path / "no weights"), "overwrite": True}
    progress.show_progress()
    try:
        for split_of, expected in ((None, True), (str(run), False)):
            with pytest.raises(WeightsError):
                edgeclf.train(digits, tmp_path / "run", split_of=split_of, **nothing)
            said = capfd.readouterr().err
            assert (f"images of {tmp_path / 'run'}, which is replaced, changed sides" in said) is expected
            assert (f"--split-of {tmp_path / 'run'} keeps each in its split" in said) is expected
    finally:
        progress.show_progress(False)
