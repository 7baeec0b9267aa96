"""Each result names its bundle, its source and, if one was given, the device."""

import csv
import json
import os

import numpy as np
import pytest

from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.errors import CameraLost, EdgeclfError, OptionError
from edgeclf_runtime.fake import FakeCamera, FakeRunner
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.results import Limits, Origin, StreamEvent, StreamResult, find_origin
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.sinks.lines import CsvSink
from edgeclf_runtime.sinks.live.sink import LiveSink
from edgeclf_runtime.sinks.uncertain_frames import UncertainSink
from edgeclf_runtime.streaming.stream import follow, stream
from tests.support.results import LOST, result
from tests.support.starting import output_of, start

ORIGIN = Origin("0123456789ab", "rtsp://cam/1", "line 4")
FIELDS = {"bundle": "0123456789ab", "source": "rtsp://cam/1", "device": "line 4"}
FRAME = np.zeros((8, 8, 3), np.uint8)
LINE = ("--model", "fp32", "--backend", "onnxruntime", "--json")


def lines(bundle, *arguments, **options):
    code, out, err = output_of(start(bundle, *arguments, *LINE, **options))
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.slow
def test_a_run_names_bundle_source_and_device(bundle):
    identity = bundle_id(bundle)
    run = ("run", "--source", "test://", "--frames", "2")
    for line in lines(bundle, *run):
        assert (line["bundle"], line["source"], "device" in line) == (identity, "test://", False)
    for line in lines(bundle, *run, environment={"EDGECLF_DEVICE_NAME": "shed \u00fc"}):
        assert line["device"] == "shed \u00fc"
    for line in lines(bundle, *run, "--device-name", "roof", environment={"EDGECLF_DEVICE_NAME": "shed"}):
        assert line["device"] == "roof"


def bundle_id(bundle):
    from edgeclf_runtime.bundle.open_bundle import open_bundle

    return open_bundle(bundle).id[:12]


@pytest.mark.slow
def test_classify_and_a_folder_name_them_too(bundle):
    image = os.path.join(str(bundle), "golden", "000.png")
    [line] = lines(bundle, "classify", image, "--device-name", "roof")
    assert (line["image"], line["source"], line["device"]) == (image, image, "roof")
    assert line["bundle"] == bundle_id(bundle)
    found = lines(bundle, "run", "--source", bundle / "golden")
    assert {line["source"] for line in found} == {str(bundle / "golden")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m", "x" * 101, "a\u202eb"])
def test_a_name_that_could_not_be_printed_is_refused_before_anything_is_opened(bundle, name):
    code, out, err = output_of(start(bundle, "run", "--source", "nowhere", "--device-name", name))
    assert (code, out, "a name of 1 to 100 printable characters was expected" in err) == (2, "", True)
    if name:
        process = start(bundle, "run", "--source", "nowhere", environment={"EDGECLF_DEVICE_NAME": name})
        code, _, err = output_of(process)
        assert (code, "EDGECLF_DEVICE_NAME is" in err, "nowhere" in err) == (1, True, False)


def test_results_and_events_of_a_stream_share_one_origin(monkeypatch):
    class Lossy(FakeCamera):
        policy = "latest"
        name = "rtsp://cam/1"

    classifier = Classifier(FakeRunner([[2, 0]]), ["cat", "dog"], Preprocessing(8, 8), bundle_id="0123456789abcdef")
    monkeypatch.setenv("EDGECLF_DEVICE_NAME", "line 4")
    with classifier, Lossy([FRAME] * 4, fps=20, fail_after=2) as camera:
        items = [item for item in follow(classifier, camera) if item is not None]
    assert {type(item) for item in items} == {StreamResult, StreamEvent}
    assert {item.origin for item in items} == {ORIGIN}
    assert len({id(item.origin) for item in items}) == 1
    for item in items:
        assert {name: item.to_dict()[name] for name in FIELDS} == FIELDS


def test_a_model_without_a_bundle_and_a_camera_without_a_name_leave_them_out():
    classifier = Classifier(FakeRunner([[2, 0]]), ["cat", "dog"], Preprocessing(8, 8))
    with classifier, FakeCamera([FRAME]) as camera:
        [item] = list(stream(classifier, camera))
    assert not set(FIELDS) & set(item.to_dict())


@pytest.mark.parametrize(
    "source",
    ["rtsp://me:hunter22@cam/1", "http://cam/video?pwd=hunter22", "gst://rtspsrc location=rtsp://x user-pw=hunter22"],
)
def test_no_source_shows_a_password(source):
    assert "hunter22" not in json.dumps(find_origin("a", source).to_dict())


def test_every_sink_of_lines_writes_them(tmp_path):
    item, event = result(confidence=0.1)._replace(origin=ORIGIN), LOST._replace(origin=ORIGIN)
    for name in ("r.jsonl", "r.csv"):
        with open_sink(tmp_path / name) as sink:
            sink.write(item)
            sink.event(event)
    for line in (tmp_path / "r.jsonl").read_text().splitlines():
        assert {name: json.loads(line)[name] for name in FIELDS} == FIELDS
    with open(str(tmp_path / "r.csv"), newline="") as stream_:
        [row] = list(csv.DictReader(stream_))
    assert {name: row[name] for name in FIELDS} == FIELDS
    with UncertainSink(tmp_path / "uncertain") as sink:
        sink.write(item)
    [about] = (tmp_path / "uncertain").glob("*.json")
    assert {name: json.loads(about.read_text())[name] for name in FIELDS} == FIELDS


UNCLEAR = result(label="unknown", confidence=0.627, candidate="cat").result._replace(reason="confidence", distance=1.0)
STRANGE = UNCLEAR._replace(reason="distance", confidence=0.99, distance=6.21)
KNOWN = result().result._replace(reason="", distance=0.42)


@pytest.mark.parametrize(
    ("found", "limits", "words"),
    [
        (UNCLEAR, Limits(0.8), "confidence 62.7 % is below 80 %"),
        (UNCLEAR, Limits(0.5, {"cat": 0.95, "dog": 0.99}), "confidence 62.7 % is below 95 %"),
        (UNCLEAR._replace(confidence=0.79996), Limits(0.8), "confidence 79.996 % is below 80 %"),
        (STRANGE, Limits(usual_distance=2.9), "like no training image: distance 6.2, usual is up to 2.9"),
        (
            STRANGE._replace(distance=2.904),
            Limits(usual_distance=2.9),
            "like no training image: distance 2.904, usual is up to 2.9",
        ),
        (STRANGE, Limits(), "like no training image: distance 6.2"),
        (STRANGE._replace(distance=float("inf")), Limits(), "like no training image: distance 1000000.0"),
        (KNOWN, Limits(usual_distance=2.0), "distance 0.4, usual is up to 2"),
        (KNOWN._replace(distance=None), Limits(usual_distance=2.0), ""),
    ],
)
def test_limits_say_in_words_why_a_result_is_unknown_and_how_far_a_known_one_is(found, limits, words):
    assert limits.explain(found) == words


def test_a_live_page_does_not_show_the_cameras_address():
    with LiveSink("0", ["cat", "dog"], "pets") as sink:
        sink.write(result()._replace(origin=ORIGIN))
        shown = sink.state()["result"]
    assert "source" not in shown
    assert (shown["bundle"], shown["device"]) == (FIELDS["bundle"], FIELDS["device"])


def test_a_csv_file_of_an_earlier_version_is_put_aside_and_a_new_one_started(tmp_path):
    old = CsvSink.earlier[0] + b"age_ms,model,backend,name\n"
    (tmp_path / "r.csv").write_bytes(old + b"1,2\n")
    with open_sink(tmp_path / "r.csv") as sink:
        sink.write(result()._replace(origin=ORIGIN))
    assert (tmp_path / "r.csv.1").read_bytes() == old + b"1,2\n"
    assert (tmp_path / "r.csv").read_bytes().startswith(CsvSink.header)


def test_the_environments_name_is_checked(monkeypatch):
    monkeypatch.setenv("EDGECLF_DEVICE_NAME", "a\x07")
    with pytest.raises(OptionError, match=r"EDGECLF_DEVICE_NAME is 'a\\x07'; a name of 1 to 100"):
        find_origin()
    assert find_origin(device="roof") == Origin("", "", "roof")


def test_a_lost_camera_is_an_event_with_them():
    assert issubclass(CameraLost, EdgeclfError)
    assert StreamEvent("lost", "x", 1.0, ORIGIN).to_dict() == dict(
        {"state": "lost", "reason": "x", "at": 1.0}, **FIELDS
    )
