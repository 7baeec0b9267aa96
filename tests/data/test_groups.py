"""Groups: images that belong together are in one split, and what is said if that cannot be done well."""

from collections import defaultdict

import pytest

from edgeclf.data.checks.integrity import check, check_for_training
from edgeclf.data.datasets import load_dataset
from edgeclf.data.groups import group_of
from edgeclf.errors import DataError
from edgeclf.options import SplitOptions, TrainOptions
from tests.support.photos import kinds, only, write_photos


def sides(dataset):
    """The splits of each group."""
    found = defaultdict(set)
    for sample in dataset.samples:
        found[sample.group].add(sample.split)
    return found


@pytest.mark.parametrize(
    ("path", "group_by", "group"),
    [
        ("cat/a/1.png", "1", "a"),
        ("cat/a/b/1.png", "1", "a"),
        ("cat/a/b/1.png", "2", "a/b"),
        ("cat/1.png", "1", ""),
        ("train/cat/a/1.png", "1", "a"),
        ("images/cat/a/1.png", "1", "a"),
        ("1.png", "1", ""),
        ("cat/p12_003.png", r"p(\d+)_", "12"),
        ("cat/p12_003.png", r"p\d+", "p12"),
        ("cat/2024-05-01/12.png", r"(\d{4})-(\d\d)", "2024/05"),
        ("cat/other.png", r"p(\d+)_", ""),
        ("cat1/7.png", r"cat(\d)", ""),
        ("cat/7.png", r"(x)|(7)", "/7"),
    ],
)
def test_the_group_of_a_path(path, group_by, group):
    assert group_of(path, path.split("/")[0] if "/cat/" not in path else "cat", group_by) == group


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("group_by", "name"),
    [
        ("1", "{label}/day {group}/{number}.png"),
        (r"^(\d+)_", "{label}/{group}_{number}.png"),
        ("2", "{label}/a/{group}/{number}.png"),
    ],
)
def test_no_group_is_on_two_sides(tmp_path, group_by, name, seed):
    names = [
        name.format(label=label, group=group, number=n)
        for label in ("cat", "dog")
        for group in range(12)
        for n in range(3)
    ]
    dataset = load_dataset(write_photos(tmp_path, names), SplitOptions(group_by=group_by, seed=seed))
    assert len(sides(dataset)) == 12
    assert all(len(splits) == 1 for splits in sides(dataset).values())
    assert all(dataset.counts().values())


def grouped_csv(folder, rows):
    """Write a CSV file with a column for groups; rows of path, label and group."""
    write_photos(folder, [row[0] for row in rows])
    columns = ("path", "label", "group", "split")[: len(rows[0])]
    path = folder / "labels.csv"
    path.write_text("\n".join(map(",".join, [columns, *rows])) + "\n")
    return path


def test_a_csv_names_groups_in_a_column(tmp_path):
    rows = [(f"{number}.png", "cat" if number % 2 else "dog", f"hen {number % 13}") for number in range(78)]
    dataset = load_dataset(grouped_csv(tmp_path, rows))
    assert len(sides(dataset)) == 13
    assert all(len(splits) == 1 for splits in sides(dataset).values())


def test_group_by_takes_the_place_of_the_column_aloud(tmp_path):
    write_photos(tmp_path, [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(12)])
    rows = "".join(f"{label}/{number}.png,{label},all\n" for label in ("cat", "dog") for number in range(12))
    (tmp_path / "list.csv").write_text(f"path,label,group\n{rows}")
    dataset = load_dataset(tmp_path / "list.csv", SplitOptions(group_by=r"(\d+)"))
    assert len({sample.group for sample in dataset.samples}) == 12
    said = [finding.message for finding in dataset.findings if finding.kind == "groups"]
    assert any(text.startswith("--group-by takes the place of the column group, in which 24 images") for text in said)


def test_a_group_keeps_its_side_while_the_data_grows(tmp_path):
    rows = [(f"{number}.png", "cat" if number % 2 else "dog", f"hen {number % 30}") for number in range(120)]
    before = sides(load_dataset(grouped_csv(tmp_path, rows)))
    rows += [(f"new {number}.png", "emu", f"hen {number % 60}") for number in range(120)]
    after = sides(load_dataset(grouped_csv(tmp_path, rows)))
    assert all(after[group] == splits for group, splits in before.items())


def test_a_val_that_is_taken_out_of_train_keeps_groups_together(tmp_path):
    names = [f"train/{label}/{group}/{n}.png" for label in "ab" for group in range(20) for n in range(2)]
    names += [f"test/{label}/{group}/{n}.png" for label in "ab" for group in range(20, 24) for n in range(2)]
    dataset = load_dataset(write_photos(tmp_path, names), SplitOptions(group_by="1"))
    assert dataset.counts()["val"]
    assert all(len(splits) == 1 for splits in sides(dataset).values())


def test_images_without_a_group_are_split_by_themselves_aloud(tmp_path):
    rows = [
        (f"{number}.png", "cat" if number % 2 else "dog", "" if number < 60 else f"hen {number}")
        for number in range(120)
    ]
    dataset = load_dataset(grouped_csv(tmp_path, rows))
    assert sides(dataset)[""] == {"train", "val", "test"}
    assert only(dataset.findings, "groups").message.startswith("60 images of 120 in ")


@pytest.mark.parametrize("groups", [1, 2])
def test_too_few_groups_stop_training(tmp_path, groups):
    rows = [(f"{number}.png", "cat" if number % 3 else "dog", f"hen {number % groups}") for number in range(24)]
    with pytest.raises(
        DataError,
        match=rf"has {groups} groups?, but train, val and test need one each: collect images of 3 groups or more",
    ):
        check_for_training(load_dataset(grouped_csv(tmp_path, rows)))


def test_few_large_groups_are_reported_with_the_shares(tmp_path):
    rows = [
        (f"{number}.png", "cat" if number % 2 else "dog", f"hen {min(number // 2 % 60, 3)}") for number in range(120)
    ]
    report = check(grouped_csv(tmp_path, rows))
    finding = only(report.findings, "groups")
    assert finding.severity == "warning"
    assert "% was asked for)" in finding.message
    assert all(split in ("train", "val", "test") for counts in report.labels.values() for split in counts)


def test_many_groups_have_nothing_to_say(tmp_path):
    rows = [(f"{number}.png", "cat" if number % 2 else "dog", f"hen {number // 2}") for number in range(400)]
    assert load_dataset(grouped_csv(tmp_path, rows)).findings == ()


def test_an_expression_that_matches_nothing_stops_training(tmp_path):
    write_photos(tmp_path, [f"{label}/{n}.png" for label in "ab" for n in range(6)])
    dataset = load_dataset(tmp_path, SplitOptions(group_by="patient"))
    with pytest.raises(
        DataError, match=r"--group-by patient finds no group in the path of any image of .*: correct it"
    ):
        check_for_training(dataset)


def test_groups_that_the_data_itself_tears_apart_are_warned_of(tmp_path):
    names = [
        f"{split}/{label}/{n % 4}_{split}{n}.png"
        for split in ("train", "val", "test")
        for label in "ab"
        for n in range(8)
    ]
    dataset = load_dataset(write_photos(tmp_path, names), SplitOptions(group_by=r"^(\d)_"))
    finding = only(dataset.findings, "leaked-group")
    assert finding.message.startswith("groups in several splits, which makes results look too good: 0, 1, 2, 3")
    rows = [(f"{n}.png", "cat" if n % 2 else "dog", f"hen {n % 5}", ("train", "val", "test")[n % 3]) for n in range(30)]
    assert only(load_dataset(grouped_csv(tmp_path / "csv", rows)).findings, "leaked-group")


def test_old_runs_ignore_groups_as_they_did(tmp_path):
    rows = [(f"{number}.png", "cat" if number % 2 else "dog", f"hen {number % 5}") for number in range(40)]
    grouped = load_dataset(grouped_csv(tmp_path, rows), SplitOptions(method="exact"))
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label, _ in rows))
    plain = load_dataset(tmp_path / "labels.csv", SplitOptions(method="exact"))
    assert [sample.split for sample in grouped.samples] == [sample.split for sample in plain.samples]
    assert "groups" not in kinds(grouped.findings)


def test_training_options_hand_the_groups_on():
    assert TrainOptions(group_by="1").split == SplitOptions(group_by="1")


def test_check_takes_groups_on_the_command_line(tmp_path, command):
    write_photos(tmp_path, [f"{label}/{group}/{n}.png" for label in "ab" for group in range(2) for n in range(6)])
    code, out, _ = command("check", tmp_path, "--group-by", "1", "--image-size", "32")
    assert code == 1
    assert "has 2 groups, but train, val and test need one each" in out
    code, _, err = command("check", tmp_path, "--group-by", "(")
    assert code == 2 or "not a regular expression" in err
