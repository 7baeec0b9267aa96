import json
import os
import shutil
import threading

import numpy as np
import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.sinks import numbered_files
from edgeclf_runtime.sinks.uncertain_frames import UncertainSink
from tests.support.pictures import noise
from tests.support.results import START, result
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def unbounded(monkeypatch):
    """The tests are faster than any camera."""
    monkeypatch.setattr(UncertainSink, "queued", 0)


def unsure(number, **fields):
    """A result of low confidence, a second after the one before."""
    return result(number, confidence=0.4, seconds=float(number), **fields)


def store(folder, items, **options):
    with UncertainSink(folder, **options) as sink:
        for item in items:
            sink.write(item)
    return sink


def names(folder):
    return sorted(os.listdir(str(folder)))


def moments(folder):
    """The times of the stored frames, in seconds after START."""
    return sorted(
        round(json.loads((folder / name).read_text())["captured_at"] - START, 3)
        for name in names(folder)
        if name.endswith(".json")
    )


def test_an_uncertain_frame_is_stored_with_what_the_model_thought(tmp_path):
    store(tmp_path / "new", [unsure(1, label="unknown", candidate="dog")])
    assert names(tmp_path / "new") == [
        "uncertain-0000000001-20231114T221321.000000Z.jpg",
        "uncertain-0000000001-20231114T221321.000000Z.json",
    ]
    image = read_image(tmp_path / "new" / names(tmp_path / "new")[0])
    assert abs(image.astype(int) - noise(64, 48)).mean() < 6
    assert json.loads((tmp_path / "new" / names(tmp_path / "new")[1]).read_text()) == {
        "label": "unknown",
        "rejected": True,
        "candidate": "dog",
        "top": [{"label": "unknown", "confidence": 0.4}, {"label": "dog", "confidence": 0.6}],
        "captured_at": START + 1,
        "model": "int8-cpu",
    }


def test_only_frames_below_the_bound_are_stored(tmp_path):
    confidences = (0.1, 0.69, 0.7, 0.95)
    items = [result(i, confidence=confidence, seconds=i) for i, confidence in enumerate(confidences)]
    store(tmp_path, items, below=0.7)
    assert moments(tmp_path) == [0, 1]


def test_at_most_one_frame_is_stored_in_each_interval(tmp_path):
    items = [result(i, confidence=0.4, seconds=i / 4) for i in range(20)]
    sink = store(tmp_path, items, every_s=2)
    assert moments(tmp_path) == [0, 2, 4]
    assert sink.lost == 0


def test_names_sort_in_the_order_of_storing(tmp_path):
    store(tmp_path, [unsure(number) for number in (9, 10, 100, 100_000)])
    images = [name for name in names(tmp_path) if name.endswith(".jpg")]
    times = [json.loads((tmp_path / (name[:-4] + ".json")).read_text())["captured_at"] - START for name in images]
    assert times == [9, 10, 100, 100_000]


def at(item, seconds):
    """A result with another wall-clock time."""
    return item._replace(frame=item.frame._replace(captured_at=float(seconds)))


def test_a_clock_that_is_set_back_does_not_make_the_newest_frames_the_oldest(tmp_path):
    store(tmp_path, [unsure(0)])
    size = sum((tmp_path / name).stat().st_size for name in names(tmp_path))
    # A board without a clock was restarted, and the network has not set its time yet.
    store(tmp_path, [at(unsure(number), number) for number in (1, 2, 3)], max_bytes=int(2.5 * size))
    assert moments(tmp_path) == [2 - START, 3 - START]


def test_numbers_go_on_after_a_restart_and_names_without_a_number_are_the_oldest(tmp_path):
    store(tmp_path, [unsure(0), unsure(1)])
    size = sum((tmp_path / name).stat().st_size for name in names(tmp_path)) // 2
    for name in names(tmp_path):
        if "-0000000002-" in name:
            # An earlier version's name, from a clock that was ahead.
            (tmp_path / name).rename(tmp_path / ("uncertain-20991231T000000.000000Z" + name[name.rindex(".") :]))
    store(tmp_path, [unsure(number) for number in (2, 3)])
    assert [name[:20] for name in names(tmp_path)[::2]] == [
        "uncertain-0000000001",
        "uncertain-0000000002",
        "uncertain-0000000003",
        "uncertain-20991231T0",
    ]
    store(tmp_path, [unsure(4)], max_bytes=int(4.5 * size))
    assert moments(tmp_path) == [0, 2, 3, 4]


def test_a_folder_that_comes_back_with_higher_numbers_is_gone_on_with(tmp_path):
    (tmp_path / "stick").mkdir()
    store(tmp_path / "other", [unsure(number) for number in range(3)])
    with UncertainSink(tmp_path / "stick") as sink:
        (tmp_path / "stick").rmdir()
        sink.write(unsure(10))
        wait_until(lambda: sink.lost == 1)
        (tmp_path / "other").rename(tmp_path / "stick")
        sink.write(unsure(11))
    assert names(tmp_path / "stick")[-1].startswith("uncertain-0000000004-")


def test_the_oldest_go_when_the_folder_is_full_those_of_earlier_runs_first(tmp_path):
    store(tmp_path, [unsure(0)])
    size = sum((tmp_path / name).stat().st_size for name in names(tmp_path))
    store(tmp_path, [unsure(number) for number in (1, 2)], max_bytes=5 * size)
    assert moments(tmp_path) == [0, 1, 2]
    store(tmp_path, [unsure(number) for number in range(3, 10)], max_bytes=int(4.5 * size))
    assert moments(tmp_path) == [6, 7, 8, 9]
    assert len(names(tmp_path)) == 8


def test_what_the_sink_did_not_write_is_never_deleted(tmp_path):
    store(tmp_path, [unsure(0)])
    first = names(tmp_path)[0]
    (tmp_path / "cat").mkdir()
    shutil.copy(str(tmp_path / first), str(tmp_path / "cat" / first))  # as a labeler does
    (tmp_path / "mine.jpg").write_bytes(bytes(100_000))
    (tmp_path / "uncertain-of-mine.jpg").write_bytes(bytes(100_000))
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / "uncertain-20200101T000000.000000Z.jpg").symlink_to(tmp_path / "elsewhere")
    store(tmp_path, [unsure(number) for number in range(1, 4)], max_bytes=1)
    assert names(tmp_path) == [
        "cat",
        "elsewhere",
        "mine.jpg",
        "uncertain-20200101T000000.000000Z.jpg",
        "uncertain-of-mine.jpg",
    ]
    assert names(tmp_path / "cat") == [first]


def test_what_a_labeller_took_away_makes_room_for_others(tmp_path):
    with UncertainSink(tmp_path / "u", max_bytes=15_000) as sink:
        for number in range(6):
            sink.write(unsure(number))
    kept = moments(tmp_path / "u")
    assert 1 < len(kept) < 6
    with UncertainSink(tmp_path / "u", max_bytes=15_000) as sink:
        for name in names(tmp_path / "u"):
            (tmp_path / "u" / name).rename(tmp_path / name)
        for number in range(10, 10 + len(kept)):
            sink.write(unsure(number))
    assert moments(tmp_path / "u") == list(range(10, 10 + len(kept)))


def test_what_a_power_cut_left_is_counted_and_deleted(tmp_path):
    left = ".abc_12x9.uncertain-20200101T000000.000000Z.jpg"
    (tmp_path / left).write_bytes(bytes(100_000))
    store(tmp_path, [unsure(1)], max_bytes=50_000)
    assert left not in names(tmp_path)
    assert moments(tmp_path) == [1]


def test_a_frame_that_is_there_is_not_replaced(tmp_path, caplog):
    with UncertainSink(tmp_path) as sink:
        sink.write(unsure(0))
        wait_until(lambda: len(names(tmp_path)) == 2)
        (tmp_path / "uncertain-0000000002-20231114T221321.000000Z.jpg").write_text("mine")
        sink.write(unsure(1))
    assert (tmp_path / "uncertain-0000000002-20231114T221321.000000Z.jpg").read_text() == "mine"
    assert sink.lost == 1
    assert "exists" in caplog.text


def test_a_full_disk_loses_frames_and_leaves_nothing_half(small_disk, caplog):
    folder = small_disk("64k")
    (folder / "filler").write_bytes(bytes(45_000))
    sink = store(folder, [unsure(number) for number in range(20)])
    assert sink.lost == 20 - len(moments(folder)) > 0
    assert len(names(folder)) == 2 * len(moments(folder)) + 1
    assert len(caplog.messages) == 1
    assert "uncertain frames are lost: " in caplog.text
    assert "(No space left on device)" in caplog.text


@pytest.fixture
def held(monkeypatch):
    """Let no frame be stored until the event is set; two may wait, as in production."""
    released = threading.Event()
    save = UncertainSink._save
    monkeypatch.setattr(UncertainSink, "queued", 2)
    monkeypatch.setattr(UncertainSink, "_save", lambda sink, item: released.wait(60) and save(sink, item))
    return released


@pytest.mark.slow
def test_of_a_file_no_frame_is_lost_on_a_slow_disk(tmp_path, held):
    threading.Timer(0.5, held.set).start()
    sink = store(tmp_path, [unsure(number) for number in range(20)], every_s=0.0, wait=True)
    assert (moments(tmp_path), sink.losses) == (list(range(20)), {})


def test_of_a_camera_frames_that_come_too_fast_are_counted_and_the_disk_is_not_blamed(tmp_path, held, caplog):
    with UncertainSink(tmp_path) as sink:
        for number in range(20):
            sink.write(unsure(number))
        held.set()
    assert 20 - 3 <= sink.lost == 20 - len(moments(tmp_path)) < 20
    assert sink.losses == {"they come faster than they can be encoded and stored": sink.lost}
    assert "disk" not in caplog.text


def test_frames_that_were_not_stored_when_the_program_was_ended_are_counted(tmp_path, held, monkeypatch, caplog):
    monkeypatch.setattr(numbered_files, "CLOSE_TIMEOUT_S", 0.05)
    sink = UncertainSink(tmp_path, wait=True)
    for number in range(3):
        sink.write(unsure(number))
    sink.close()
    assert sink.losses == {"the program ended first": 3}
    assert "the last 3 uncertain frames are lost: the program ended first" in caplog.text
    held.set()


def test_each_reason_is_counted_by_itself(small_disk, held):
    folder = small_disk("64k")
    (folder / "filler").write_bytes(bytes(64_000))
    with UncertainSink(folder) as sink:
        for number in range(5):
            sink.write(unsure(number))
        held.set()
    full = sink.losses.pop("No space left on device")
    assert full >= 1
    assert sink.losses == {"they come faster than they can be encoded and stored": 5 - full}


def test_a_folder_that_vanishes_is_waited_for(tmp_path, caplog):
    folder = tmp_path / "stick"
    store(folder, [])
    with UncertainSink(folder) as sink:
        folder.rmdir()
        sink.write(unsure(0))
        sink.write(unsure(1))
    assert sink.lost == 2
    assert not folder.exists()
    assert len(caplog.messages) == 1
    assert "uncertain frames are lost: the folder is gone" in caplog.text


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        UncertainSink(tmp_path / "file")


def test_a_frame_that_opencv_refuses_is_lost_and_the_next_is_stored(tmp_path, caplog):
    sink = store(tmp_path, [unsure(0, image=np.zeros((0, 0, 3), np.uint8)), unsure(1)])
    assert sink.lost == 1
    assert moments(tmp_path) == [1]
    assert "uncertain frames are stored again; 1 were lost" in caplog.messages[1]
