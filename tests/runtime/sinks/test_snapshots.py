"""The best picture of each event is on disk, whole or not at all, and the disk never fills."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest

from edgeclf_runtime.sinks.actions.snapshots import SnapshotSink, file_word
from tests.support.pictures import noise
from tests.support.results import came, went
from tests.support.waiting import wait_until

START = "20231114T221320"


def names(folder):
    return sorted(os.listdir(str(folder)))


def gray(level):
    return np.full((48, 64, 3), level, np.uint8)


def store(folder, events, **options):
    with SnapshotSink(folder, **options) as sink:
        for event in events:
            sink.label_event(event)
    return sink


def test_the_picture_is_named_by_the_time_and_label_and_has_the_events_line_beside_it(tmp_path):
    store(tmp_path / "new", [came(7, label="T-shirt/top", image=gray(100))])
    name = f"event-0000000001-{START}.700000Z-T_shirt_top"
    assert names(tmp_path / "new") == [name + ".jpg", name + ".json"]
    assert json.loads((tmp_path / "new" / (name + ".json")).read_text()) == came(7, label="T-shirt/top").to_dict()
    assert cv2.imread(str(tmp_path / "new" / (name + ".jpg"))).shape == (48, 64, 3)


def test_the_best_picture_of_the_whole_event_replaces_that_of_its_beginning(tmp_path):
    with SnapshotSink(tmp_path) as sink:
        sink.label_event(came(0, image=gray(50)))
        wait_until(lambda: len(names(tmp_path)) == 2)
        sink.label_event(went(0, image=gray(200)))
    picture, line = names(tmp_path)
    assert abs(int(cv2.imread(str(tmp_path / picture)).mean()) - 200) < 3
    assert json.loads((tmp_path / line).read_text())["event"] == "end"


def test_two_events_have_two_pictures(tmp_path):
    events = [came(0, image=gray(50), id="a"), came(1, image=gray(50), id="b"), went(0, image=gray(60), id="a")]
    store(tmp_path, events)
    assert [name[:16] for name in names(tmp_path)] == ["event-0000000001"] * 2 + ["event-0000000002"] * 2


def test_an_event_without_an_image_is_left_out(tmp_path):
    store(tmp_path, [came(), went()])
    assert names(tmp_path) == []


def test_the_oldest_go_when_the_folder_is_full_and_other_files_stay(tmp_path):
    (tmp_path / "event-plan.jpg").write_text("mine")
    (tmp_path / f"uncertain-0000000001-{START}.000000Z.jpg").write_text("of the other option")
    store(tmp_path, [came(0, image=noise(64, 48), id="0")])
    size = sum(
        os.path.getsize(str(tmp_path / name)) for name in names(tmp_path) if "-00000000" in name and "cat" in name
    )
    store(tmp_path, [came(n, image=noise(64, 48), id=str(n)) for n in range(1, 6)], max_bytes=int(2.5 * size))
    assert [name[:16] for name in names(tmp_path)] == [
        *["event-0000000005"] * 2,
        *["event-0000000006"] * 2,
        "event-plan.jpg",
        "uncertain-000000",
    ]


def test_a_folder_that_is_gone_is_reported_once_and_gone_on_with(tmp_path, caplog):
    with SnapshotSink(tmp_path / "stick") as sink:
        shutil.rmtree(str(tmp_path / "stick"))
        for number in range(3):
            sink.label_event(came(number, image=gray(9), id=str(number)))
        wait_until(lambda: sink.lost == 3)
        (tmp_path / "stick").mkdir()
        sink.label_event(came(3, image=gray(9), id="3"))
    assert sink.losses == {"the folder is gone": 3}
    assert len(names(tmp_path / "stick")) == 2
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "snapshots are lost: the folder is gone",
        "snapshots are stored again; 3 were lost",
    ]


@pytest.mark.parametrize(
    ("label", "word"),
    [("cat", "cat"), ("Für 1", "Fur_1"), ("../../etc", ".._.._etc"), ("猫", "_"), ("a" * 99, "a" * 60), ("", "_")],
)
def test_a_label_becomes_a_word_that_every_file_system_takes(label, word):
    assert file_word(label) == word
