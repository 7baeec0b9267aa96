"""The command run with --event, --every."""

import json
import shutil
import signal

import cv2
import numpy as np
import pytest

from edgeclf_runtime.sinks.actions.webhook import signature
from tests.support.receivers import Receiver
from tests.support.starting import output_of, start

FP32 = ("--model", "fp32", "--backend", "onnxruntime", "--no-health")


@pytest.fixture(scope="module")
def pictures(bundle, tmp_path_factory):
    """A folder of images, 15 a second: two seconds of one label, two of another, two of the first; and the two labels."""
    from edgeclf_runtime.classify.classifier import Classifier

    golden = sorted(bundle.glob("golden/*.png"))
    with Classifier.open(bundle, "fp32", "onnxruntime") as classifier:
        labels = [classifier.classify(path).label for path in golden]
    first, second = golden[0], golden[[label != labels[0] for label in labels].index(True)]
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(90):
        shutil.copy(str(second if 30 <= number < 60 else first), str(folder / f"{number}.png"))
    return folder, labels[0], labels[golden.index(second)]


def json_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_with_an_event_writes_a_line_when_a_label_has_come_and_gone(cli, pictures):
    folder, _, label = pictures
    code, out, err = cli("run", "--source", folder, *FP32, "--json", "--event", f"{label}: hold=0.5, min=0.3")
    assert (code, "90 frames classified" in err) == (0, True)
    start, end = json_of(out)
    assert (start["event"], start["label"], start["start_frame"], start["source"]) == ("start", label, 30, str(folder))
    assert (end["event"], end["reason"], end["frames"], end["duration_s"]) == ("end", "left", 30, 2.0)
    assert end["id"] == start["id"]


def test_frames_are_written_beside_events_if_they_are_asked_for(cli, pictures, tmp_path, caplog):
    folder, first, _ = pictures
    sinks = ("--sink", tmp_path / "r.jsonl", "--sink", tmp_path / "r.csv")
    code, out, _ = cli("run", "--source", folder, *FP32, "--event", "*: min=0.3", "--every", "1s", *sinks)
    assert code == 0
    lines = json_of((tmp_path / "r.jsonl").read_text())
    assert [line["frame"] for line in lines if "frame" in line] == [0, 15, 30, 45, 60, 75]
    assert [line["event"] for line in lines if "event" in line] == ["start", "end", "start", "end", "start", "end"]
    assert [line.get("reason") for line in lines if "event" in line][-1] == "stopped"
    assert len(out.splitlines()) == 12
    assert f"0  start: {first} " in out
    assert (tmp_path / "r.csv").read_text().count("\n") == 1 + 6
    assert "r.csv holds events only" in caplog.text


@pytest.mark.parametrize(("options", "count"), [((), 90), (("--every", "0"), 90), (("--every", "0.5"), 12)])
def test_every_limits_the_frames_that_are_written(cli, pictures, options, count):
    code, out, _ = cli("run", "--source", pictures[0], *FP32, *options)
    assert (code, len(out.splitlines())) == (0, count)


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        (("--event", "nobody"), "there is no label 'nobody' for --event", 1),
        (("--event", "*", "--event", "*"), "--event is given twice for the label '*'", 1),
        (("--event", "*: hold=x"), "argument --event: hold=x is not a number of seconds", 2),
        (("--event", "*", "--schedule", "8-18"), "argument --schedule: '8' in '8-18' is not a time", 2),
        (("--schedule", "08:00-18:00"), "--schedule is for events, and there are none", 1),
        (
            ("--event", "*", "--webhook", "https://h/", "--webhook-ca", "no.pem"),
            "--webhook-ca no.pem cannot be read",
            1,
        ),
        (("--event", "*", "--webhook-ca", "no.pem"), "there is none: add --webhook https://HOST/PATH", 1),
        (("--every", "often"), "argument --every: 'often' is not a number of seconds", 2),
        (("--every=-1s",), "'-1s' is not a number of seconds, such as 1s", 2),
    ],
)
def test_what_cannot_be_is_a_one_line_error(cli, pictures, options, words, status):
    code, out, err = cli("run", "--source", pictures[0], *FP32, *options)
    assert (code, out) == (status, "")
    assert words in err.splitlines()[-1]


def test_with_when_motion_a_still_scene_is_classified_once_a_second_and_no_event_is_missed(cli, pictures):
    folder, first, second = pictures
    code, out, err = cli(
        "run", "--source", folder, *FP32, "--json", "--when-motion", "--event", "*: min=0.3", "--every", "0"
    )
    assert code == 0
    lines = json_of(out)
    assert [line["frame"] for line in lines if "frame" in line] == [
        *range(15),
        29,
        *range(30, 45),
        59,
        *range(60, 75),
        89,
    ]
    assert "48 frames classified, 42 without motion, 0 dropped, 0 unreadable" in err
    starts = [(line["label"], line["start_frame"]) for line in lines if line.get("event") == "start"]
    assert starts == [(first, 0), (second, 30), (first, 60)]


def test_a_run_keeps_the_best_picture_of_each_event(cli, pictures, tmp_path):
    folder, first, second = pictures
    code, out, _ = cli(
        "run", "--source", folder, *FP32, "--json", "--event", "*: min=0.3", "--snapshots", tmp_path / "s"
    )
    assert code == 0
    ends = [line for line in json_of(out) if line["event"] == "end"]
    kept = [json.loads(path.read_text()) for path in sorted((tmp_path / "s").glob("*.json"))]
    assert kept == ends
    assert [line["label"] for line in kept] == [first, second, first]
    best = cv2.imread(str(folder / ends[1]["best_name"])).astype(int)
    picture = cv2.imread(str(sorted((tmp_path / "s").glob("*.jpg"))[1])).astype(int)
    assert np.abs(picture - best).mean() < 3


def test_a_run_keeps_a_video_of_its_events(cli, pictures, tmp_path):
    code, out, _ = cli(
        *("run", "--source", pictures[0], *FP32, "--json", "--event", "*: min=0.3", "--clips", tmp_path / "c")
    )
    assert code == 0
    ends = [line for line in json_of(out) if line["event"] == "end"]
    [about] = [json.loads(path.read_text()) for path in (tmp_path / "c").glob("*.json")]
    assert about["events"] == ends  # they follow each other
    [video] = [cv2.VideoCapture(str(path)) for path in (tmp_path / "c").glob("*.mp4")]
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == round(15 * about["seconds"]) >= 88


def test_home_assistant_is_refused_without_a_broker(cli, pictures):
    code, out, err = cli("run", "--source", pictures[0], *FP32, "--event", "*", "--home-assistant")
    assert (code, out) == (1, "")
    assert "there is no broker: add --sink mqtt://HOST/TOPIC" in err


@pytest.mark.parametrize("option", ["--snapshots", "--clips", "--home-assistant", "--webhook", "--on-event"])
def test_what_is_for_events_is_refused_without_them(cli, pictures, option):
    code, out, err = cli("run", "--source", pictures[0], *FP32, option, "x")
    assert (code, out) == (1, "")
    assert f"{option} is for events, and there are none: add --event, such as --event '*'" in err


def test_a_run_posts_each_event_and_starts_a_program_for_it(cli, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("EDGECLF_WEBHOOK_SECRET", "geheim-geheim")
    receiver = Receiver()
    save = ("--on-event-arg=-c", "--on-event-arg", "cat >> saved")
    monkeypatch.chdir(tmp_path)
    actions = ("--webhook", receiver.url, "--on-event", "/bin/sh", *save)
    code, out, err = cli("run", "--source", pictures[0], *FP32, "--json", "--event", "*: min=0.3", *actions)
    receiver.close()
    assert (code, "lost" in err) == (0, False)
    events = json_of(out)
    assert [json.loads(body.decode("utf-8")) for _, _, body in receiver.got] == events
    assert json_of((tmp_path / "saved").read_text()) == events
    assert receiver.got[0][1]["X-Hub-Signature-256"] == signature(b"geheim-geheim", receiver.got[0][2])


@pytest.mark.slow
def test_a_run_that_is_stopped_ends_its_events(bundle):
    process = start(bundle, "run", "--source", "test://", *FP32, "--json", "--event", "*: hold=0, min=0.01")
    first = json.loads(process.stdout.readline().decode("utf-8"))
    assert first["event"] == "start"
    process.send_signal(signal.SIGTERM)
    code, out, err = output_of(process)
    assert (code, "Traceback" in err) == (143, False)
    last = json_of(out)[-1]
    assert (last["event"], last["reason"]) == ("end", "stopped")
