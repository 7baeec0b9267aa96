import csv
import importlib
import json
import os
import shutil
import time

import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.sinks import SINKS, open_sink
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.sinks.lines import STAGES, CsvSink, JsonLinesSink
from tests.support.results import LOST, START, result


def rows(path):
    with open(str(path), newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def json_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("kind", sorted(SINKS))
def test_every_kind_in_the_table_is_a_sink(kind):
    module, name = SINKS[kind]
    assert issubclass(getattr(importlib.import_module("edgeclf_runtime.sinks." + module), name), Sink)


@pytest.mark.parametrize("target", ["results.txt", "results", "ftp://host/x", "", "mqtt:/host/topic"])
def test_a_wrong_target_is_told_the_right_forms(target):
    with pytest.raises(OutputError, match=r"unknown output .* NAME\.jsonl or NAME\.csv.*NAME\.mp4.*mqtt://"):
        open_sink(target)


def test_a_target_opens_its_sink_with_its_options(tmp_path):
    with open_sink(tmp_path / "new" / "R.JSONL", fps=30, backups=1) as sink:
        assert isinstance(sink, JsonLinesSink)
        sink.write(result())
    assert json_lines(tmp_path / "new" / "R.JSONL") == [result().to_dict()]


def test_a_line_is_in_the_file_when_write_returns_and_further_runs_add_to_it(tmp_path):
    path = tmp_path / "r.jsonl"
    for number in range(2):
        with JsonLinesSink(path) as sink:
            sink.write(result(number))
            assert [line["frame"] for line in json_lines(path)] == list(range(number + 1))
            sink.close()


def test_events_stand_between_the_results(tmp_path):
    with JsonLinesSink(tmp_path / "r.jsonl") as sink:
        sink.write(result(0))
        sink.event(LOST)
    assert json_lines(tmp_path / "r.jsonl")[1] == LOST.to_dict()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path, kind):
    path = tmp_path / ("r." + kind)
    with open_sink(path, max_bytes=1000, backups=2) as sink:
        for number in range(40):
            sink.write(result(number))
    assert sorted(os.listdir(str(tmp_path))) == ["r." + kind, "r." + kind + ".1", "r." + kind + ".2"]
    found = []
    for suffix in (".2", ".1", ""):
        part = tmp_path / (path.name + suffix)
        assert part.stat().st_size <= 1000
        found += [int(line["frame"]) for line in (rows(part) if kind == "csv" else json_lines(part))]
    assert found == list(range(found[0], 40))
    assert sink.lost == 0


def test_a_line_that_a_power_cut_tore_spoils_no_other(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"frame": 1')
    with JsonLinesSink(tmp_path / "r.jsonl") as sink:
        sink.write(result(2))
    assert (tmp_path / "r.jsonl").read_text() == '{"frame": 1\n' + result(2).to_json() + "\n"


def test_a_full_disk_loses_lines_is_told_once_and_leaves_no_half_line(small_disk, caplog):
    folder = small_disk("64k")
    sink = JsonLinesSink(folder / "r.jsonl")
    (folder / "filler").write_bytes(bytes(50000))
    for number in range(100):
        sink.write(result(number))
    written = [line["frame"] for line in json_lines(folder / "r.jsonl")]
    assert sink.lost == 100 - len(written) > 0
    (folder / "filler").unlink()
    sink.write(result(100))
    sink.write(result(101))
    assert [line["frame"] for line in json_lines(folder / "r.jsonl")] == [*written, 100, 101]
    assert len(caplog.messages) == 2
    assert "r.jsonl: results are lost: " in caplog.messages[0]
    assert f"results are written again; {sink.lost} were lost" in caplog.messages[1]
    sink.close()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_folder_that_vanishes_loses_lines_until_it_is_back(tmp_path, caplog, kind):
    path = tmp_path / "stick" / ("r." + kind)
    sink = open_sink(path)
    sink.write(result(0))
    shutil.rmtree(str(path.parent))
    sink.write(result(1))
    sink.write(result(2))
    assert not path.parent.exists()
    path.parent.mkdir()
    sink.write(result(3))
    sink.close()
    assert [int(line["frame"]) for line in (rows(path) if kind == "csv" else json_lines(path))] == [3]
    assert sink.lost == 2
    assert [("lost: [Errno 2]" in message, "2 were lost" in message) for message in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_a_file_that_another_program_moved_is_begun_anew(tmp_path):
    with JsonLinesSink(tmp_path / "r.jsonl") as sink:
        sink.write(result(0))
        (tmp_path / "r.jsonl").rename(tmp_path / "moved")
        sink.write(result(1))
    assert json_lines(tmp_path / "r.jsonl") == [result(1).to_dict()]


def test_a_row_holds_times_label_confidence_and_every_stage(tmp_path):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(result(7, label='a "cell", \u00fcber', seconds=0.25, name="a,b.png"))
    assert rows(tmp_path / "r.csv") == [
        {
            "frame": "7",
            "captured_at": "2023-11-14T22:13:20.250Z",
            "captured_at_s": str(START + 0.25),
            "label": 'a "cell", \u00fcber',
            "rejected": "false",
            "candidate": 'a "cell", \u00fcber',
            "confidence": "0.9",
            "reason": "",
            "distance": "",
            "age_ms": "41.5",
            "capture_ms": "4.0",
            "preprocess_ms": "2.0",
            "inference_ms": "30.0",
            "postprocess_ms": "0.5",
            "model": "int8-cpu",
            "backend": "onnxruntime",
            "name": "a,b.png",
            "bundle": "",
            "source": "",
            "device": "",
        }
    ]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1", "\uff1d1+1", "=cmd|' /C calc'!A0", "-", "="],
)
def test_a_spreadsheet_runs_no_label_and_no_file_name(tmp_path, text):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(result(label=text, name=text))
    (row,) = rows(tmp_path / "r.csv")
    assert (row["label"], row["name"]) == ("'" + text, "'" + text)


@pytest.mark.parametrize(
    "text", ["-1", "+1.5", "-.5", "1e-3", "cat", "a=b", "x@y", "'quoted", "", "a-b", "two\nlines", "a\rb"]
)
def test_numbers_and_other_texts_stay_as_they_are_in_a_csv_file(tmp_path, text):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(result(label=text, name=text))
    assert rows(tmp_path / "r.csv")[0]["label"] == text
    with JsonLinesSink(tmp_path / "r.jsonl") as sink:
        sink.write(result(label="=1+1"))
    assert json_lines(tmp_path / "r.jsonl")[0]["label"] == "=1+1"


def test_the_columns_are_the_stages_that_a_real_result_has(bundle):
    with Classifier.open(bundle, "fp32") as classifier:
        item = result()
        item = item._replace(result=classifier.classify(item.frame.image))
    assert isinstance(item.frame, Frame)
    assert tuple(item.to_dict()["timings_ms"]) == STAGES


def test_a_label_named_unknown_is_told_from_one_that_was_rejected(tmp_path):
    for kind in ("csv", "jsonl"):
        with open_sink(tmp_path / ("r." + kind)) as sink:
            sink.write(result(label="unknown"))
            sink.write(result(label="unknown", candidate="defective", confidence=0.627))
    found = [(row["label"], row["rejected"], row["candidate"], row["confidence"]) for row in rows(tmp_path / "r.csv")]
    assert found == [("unknown", "false", "unknown", "0.9"), ("unknown", "true", "defective", "0.627")]
    found = [(line["label"], line["rejected"], line["candidate"]) for line in json_lines(tmp_path / "r.jsonl")]
    assert found == [("unknown", False, "unknown"), ("unknown", True, "defective")]


def test_a_file_that_an_earlier_version_wrote_is_put_aside(tmp_path):
    earlier = "frame,captured_at,captured_at_s,label,confidence,age_ms,model,backend,name\n1,2,3,cat,0.9,4,m,b,\n"
    (tmp_path / "r.csv").write_text(earlier)
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(result(5))
    assert [row["frame"] for row in rows(tmp_path / "r.csv")] == ["5"]
    assert (tmp_path / "r.csv.1").read_text() == earlier


def test_rows_are_added_to_a_file_of_the_same_header(tmp_path):
    for number in range(2):
        with CsvSink(tmp_path / "r.csv") as sink:
            sink.write(result(number))
    assert [row["frame"] for row in rows(tmp_path / "r.csv")] == ["0", "1"]


def test_a_file_of_another_header_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "r.csv").write_text("time,price\n1,2\n")
    with pytest.raises(OutputError, match=r"r\.csv begins with 'time,price', but 'frame,captured_at,.*was expected"):
        CsvSink(tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_text() == "time,price\n1,2\n"


def test_a_header_that_a_power_cut_tore_is_written_anew(tmp_path):
    (tmp_path / "r.csv").write_text("frame,capt")
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.write(result(5))
    assert [row["frame"] for row in rows(tmp_path / "r.csv")] == ["5"]


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(str(tmp_path / "pipe.jsonl"))
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    for name in ("pipe.jsonl", "folder.csv", "full.jsonl"):
        with pytest.raises(OutputError, match="is not a file"):
            open_sink(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"the output folder .* cannot be created"):
        open_sink(tmp_path / "file" / "r.jsonl")


def test_times_of_the_csv_are_utc_whatever_the_zone_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        with CsvSink(tmp_path / "r.csv") as sink:
            sink.write(result())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert rows(tmp_path / "r.csv")[0]["captured_at"] == "2023-11-14T22:13:20.000Z"
