"""The split by hash: stable while the data grows, near the shares, and never without training images."""

import hashlib
import shutil

import pytest

from edgeclf.data.datasets import load_dataset
from edgeclf.data.splits import divide_by_hash, divide_exactly
from edgeclf.errors import DataError, ModelError, OptionError
from edgeclf.options import SplitOptions
from edgeclf.training.runs import read_split_options, split_facts, write_split
from tests.support.photos import kinds, only, write_photos

SHARES = {"test": 0.25, "val": 0.1}


def keys(count, salt=""):
    return [hashlib.sha256(f"{salt}{number}".encode()).hexdigest() for number in range(count)]


@pytest.mark.parametrize(("count", "points"), [(100, 13), (1000, 4.5), (10_000, 1.5)])
def test_the_shares_are_met_on_average(count, points):
    for salt in "abc":
        found = divide_by_hash(["cat"] * count, keys(count, salt), SHARES).splits
        for split, share in (("test", 0.25), ("val", 0.075), ("train", 0.675)):
            assert abs(found.count(split) / count - share) * 100 < points


@pytest.mark.parametrize("shares", [{"test": 0.5, "val": 0.5}, {"val": 0.3}, {"test": 0.05, "val": 0.85}])
def test_other_shares_are_met(shares):
    found = divide_by_hash(["cat"] * 10_000, keys(10_000), shares).splits
    left = 1.0
    for split, share in shares.items():
        assert abs(found.count(split) / 10_000 - left * share) < 0.015
        left *= 1 - share


@pytest.mark.parametrize("seed", range(3))
def test_an_image_keeps_its_side_while_others_come_and_go(seed):
    names, labels = keys(1500), [f"label {number % 3}" for number in range(1500)]
    whole = dict(zip(names, divide_by_hash(labels, names, SHARES, seed).splits, strict=True))
    for start, end in ((0, 60), (0, 200), (700, 1500), (333, 900)):
        part = divide_by_hash(labels[start:end], names[start:end], SHARES, seed)
        assert not part.moved
        assert part.splits == [whole[name] for name in names[start:end]]


def test_photographs_keep_their_side_while_a_folder_grows(tmp_path):
    write_photos(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(25)])
    before = {sample.path: sample.split for sample in load_dataset(tmp_path).samples}
    write_photos(tmp_path, [f"{label}/new {number}.png" for label in ("cat", "dog", "emu") for number in range(40)])
    after = {sample.path: sample.split for sample in load_dataset(tmp_path).samples}
    assert len(after) == 170
    assert all(after[path] == split for path, split in before.items())
    shutil.rmtree(tmp_path / "dog")
    assert all(after[sample.path] == sample.split for sample in load_dataset(tmp_path).samples)


def test_a_label_does_not_change_the_side_of_an_image():
    names = keys(300)
    assert (
        divide_by_hash(["cat"] * 300, names, SHARES).splits
        == divide_by_hash(["cat", "dog"] * 150, names, SHARES).splits
    )


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_few_images_are_enough_to_train_validate_and_test(count, labels):
    for seed in range(20):
        names = keys(count * labels, str(seed))
        found = divide_by_hash([number % labels for number in range(count * labels)], names, SHARES, seed)
        for label in range(labels):
            assert "train" in found.splits[label::labels]
        assert count < 3 or set(found.splits) == {"train", "val", "test"}


def test_no_image_of_train_is_moved_to_test_as_a_label_grows_from_three():
    """An image that a model was trained on must not be among those it is tested on."""
    for salt in range(60):
        names, trained = keys(40, str(salt)), set()
        for count in range(3, 40):
            found = divide_by_hash(["cat"] * count, names[:count], SHARES)
            tested = {name for name, split in zip(names, found.splits, strict=False) if split == "test"}
            # The one image that train borrowed because all were drawn for the other splits goes back.
            assert len(tested & trained) <= 1
            trained = {name for name, split in zip(names, found.splits, strict=False) if split == "train"}


def test_images_that_change_sides_are_reported(tmp_path):
    dataset = load_dataset(write_photos(tmp_path, ["cat/1.png", "cat/2.png", "cat/3.png", "dog/4.png"]))
    assert all(dataset.counts().values())
    assert (
        "moved to another split; they may move back when the data grows" in only(dataset.findings, "few-images").message
    )


def test_enough_images_are_not_reported(tmp_path):
    dataset = load_dataset(write_photos(tmp_path, [f"{label}/{n}.png" for label in ("cat", "dog") for n in range(60)]))
    assert "few-images" not in kinds(dataset.findings)


# Records of old runs


def test_a_record_without_a_method_is_of_the_exact_split(digits):
    options = read_split_options({"seed": 3, "test": 0.25, "val": 0.1})
    assert options == SplitOptions(seed=3, method="exact")
    dataset = load_dataset(digits, options)
    digests = dataset.sha256(dataset.samples)
    labels = [sample.label for sample in dataset.samples]
    assert [sample.split for sample in dataset.samples] == divide_exactly(labels, digests, SHARES, 3)


@pytest.mark.parametrize(
    "options",
    [SplitOptions(), SplitOptions(seed=5, test=0.4), SplitOptions(method="exact"), SplitOptions(group_by=r"(\d+)_")],
)
def test_a_split_is_read_back_as_it_was_written(tmp_path, options):
    dataset = load_dataset(write_photos(tmp_path, [f"{label}/1_{n}.png" for label in "ab" for n in range(6)]), options)
    assert dataset.divided_by == options
    assert read_split_options(split_facts(dataset)) == options


def test_records_of_exact_splits_are_written_as_before(digits):
    assert split_facts(load_dataset(digits, SplitOptions(method="exact"))) == {"seed": 0, "test": 0.25, "val": 0.1}


@pytest.mark.parametrize(
    "record", [{"method": "magic"}, {"method": 1}, {"group_by": 3}, {"group_by": ""}, {"shares": 1}]
)
def test_a_damaged_record_is_refused(record):
    with pytest.raises(ValueError, match="split"):
        read_split_options({"seed": 0, "test": 0.25, "val": 0.1, **record})


@pytest.mark.parametrize("group_by", ["(", "0", "33", "", ".*", "a" * 201, "*"])
def test_a_group_by_that_is_no_expression_is_refused(group_by):
    with pytest.raises(OptionError, match="group-by is"):
        SplitOptions(group_by=group_by)


def test_a_solar_cell_keeps_its_published_side():
    pytest.importorskip("elpv_dataset")
    dataset = load_dataset("elpv")
    assert dataset.divided_by == SplitOptions(method="exact")
    assert dataset.counts() == {"train": 1771, "val": 197, "test": 656} or sum(dataset.counts().values()) == 2624


def test_solar_cells_have_no_groups_to_choose():
    pytest.importorskip("elpv_dataset")
    with pytest.raises(OptionError, match="group-by needs the split method 'stable'"):
        load_dataset("elpv", SplitOptions(group_by="1"))


def test_evaluating_an_old_run_divides_the_data_as_it_was(run, digits, tmp_path):
    import json

    from edgeclf import evaluate

    old = shutil.copytree(run, tmp_path / "old", ignore=shutil.ignore_patterns("*.onnx", "quantization*"))
    facts = json.loads((old / "run.json").read_text())
    facts["data"]["split"] = {"seed": 0, "test": 0.25, "val": 0.1}
    (old / "run.json").write_text(json.dumps(facts))
    assert evaluate(old, digits).images == 45
    facts["data"]["split"]["method"] = "magic"
    (old / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ModelError, match="magic"):
        evaluate(old, digits)


def test_images_of_an_earlier_run_keep_their_split_under_any_seed_and_name(tmp_path):
    write_photos(tmp_path / "data", [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(25)])
    before = load_dataset(tmp_path / "data")
    (tmp_path / "run").mkdir()
    write_split(tmp_path / "run", before)
    sides = dict(zip(before.sha256(before.samples), (sample.split for sample in before.samples), strict=True))
    (tmp_path / "data" / "cat").rename(tmp_path / "data" / "Cat")
    write_photos(tmp_path / "data", [f"dog/new {number}.png" for number in range(25)])
    for source in (tmp_path / "run", tmp_path / "run" / "split.csv"):
        after = load_dataset(tmp_path / "data", SplitOptions(seed=3, split_of=str(source)))
        found = dict(zip(after.sha256(after.samples), (sample.split for sample in after.samples), strict=True))
        assert sides.items() <= found.items()
        assert {found[digest] for digest in found.keys() - sides.keys()} == {"train", "val", "test"}
    assert "split_of" not in split_facts(after)


@pytest.mark.parametrize("content", ["path,label\n", "\xff", ""])
def test_a_file_that_is_no_split_is_refused(tmp_path, content):
    write_photos(tmp_path / "data", ["cat/1.png", "dog/1.png"])
    (tmp_path / "split.csv").write_text(content, encoding="latin-1")
    with pytest.raises(
        DataError, match=r"does not say which image is in which split .*: a run, or its split\.csv, was expected"
    ):
        load_dataset(tmp_path / "data", SplitOptions(split_of=str(tmp_path / "split.csv")))
    with pytest.raises(DataError, match=r"a run, or its split\.csv, was expected"):
        load_dataset(tmp_path / "data", SplitOptions(split_of=str(tmp_path / "data")))
