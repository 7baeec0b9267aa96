"""The command run: its start and end, and its sources."""

import json
import re
import signal
import socket

import cv2
import numpy as np
import pytest

from tests.support.starting import WAIT_S, output_of, start
from tests.support.video_files import avi


@pytest.fixture
def video(tmp_path):
    """A video of one minute."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 16))
    for number in range(600):
        writer.write(np.full((16, 32, 3), number % 256, np.uint8))
    writer.release()
    return path


@pytest.mark.slow
def test_a_video_of_any_name_is_read_where_python_has_no_locale(bundle, video):
    video.rename(video.parent / "Für 1.avi")
    arguments = ("run", "--source", video.parent / "Für 1.avi", "--frames", "1")
    code, out, err = output_of(start(bundle, *arguments, environment={"LC_ALL": "C"}))
    assert (code, out.count("\n"), "1 frame classified" in err) == (0, 1, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_with_its_summary(bundle, video, number):
    process = start(bundle, "run", "--source", video, "--policy", "latest", "--json")
    assert json.loads(process.stdout.readline().decode("utf-8"))["label"]
    process.send_signal(number)
    code, out, err = output_of(process)
    assert code == 128 + number
    assert all(json.loads(line)["label"] for line in out.splitlines())
    assert re.search(r"^\d+ frames? classified, ", err.splitlines()[-1])
    assert "Traceback" not in err


@pytest.mark.slow
def test_systemd_is_notified_when_a_run_is_ready_alive_and_stopping(bundle, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WAIT_S)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        process = start(bundle, "run", "--source", "test://", "--quiet", environment=environment)
        said = []
        while "READY=1" not in "".join(said) or said.count("WATCHDOG=1") < 3:
            said.append(systemd.recv(4096).decode())
        process.terminate()
        assert output_of(process)[0] == 143
        while "STOPPING=1" not in said:
            said.append(systemd.recv(4096).decode())


@pytest.mark.slow
def test_a_run_whose_reader_has_gone_ends_quietly(bundle, video):
    process = start(bundle, "run", "--source", video)
    assert b"age" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT_S) == 0
    err = process.stderr.read().decode("utf-8")
    process.stderr.close()
    assert "Traceback" not in err
    assert "Broken" not in err


@pytest.mark.slow
def test_a_full_disk_is_a_one_line_error(bundle, video):
    with open("/dev/full", "wb") as full:
        process = start(bundle, "run", "--source", video, stdout=full)
        code, _, err = output_of(process)
    assert code == 1
    assert err.splitlines()[-1] == "error: [Errno 28] No space left on device"
    assert "Traceback" not in err
    assert "ignored" not in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2026-11-28T10:15:00.avi", "user:word@host.avi", "C:\\video.avi", "two\nlines.avi"])
def test_a_run_of_a_video_with_a_colon_in_its_name_says_nothing_of_addresses(cli, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    avi(tmp_path / name, 2)
    code, out, err = cli("run", "--source", name, "--json")
    assert (code, [json.loads(line)["position_s"] for line in out.splitlines()]) == (0, [0, 0.02])
    assert [line.split(" on ")[0] for line in err.splitlines()][1:] == ["2 frames classified, 0 dropped, 0 unreadable"]


@pytest.mark.slow
def test_a_run_of_a_video_that_was_cut_off_keeps_its_results_and_ends_with_1(cli, tmp_path):
    data = avi(tmp_path / "whole.avi", 20).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: data.index(b"00dc", data.index(b"movi")) + 2000])
    code, out, err = cli("run", "--source", tmp_path / "cut.avi", "--json", "--sink", tmp_path / "v.avi")
    count = len(out.splitlines())
    assert code == 1
    assert 3 < count < 20
    assert f"{count} frames classified, 0 dropped, {20 - count} unreadable" in err
    assert f"error: {tmp_path}/cut.avi ended after {count} of 20 frames: the file is truncated" in err
    assert cv2.VideoCapture(str(tmp_path / "v.avi")).get(cv2.CAP_PROP_FRAME_COUNT) == count


def test_a_run_over_a_folder_writes_a_line_for_each_image_and_says_what_it_left_out(cli, photos, caplog):
    (photos / "broken.jpg").write_text("no image")
    (photos / "notes.txt").write_text("not called an image")
    code, out, err = cli("run", "--source", photos, "--json", "--model", "fp32")
    assert code == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 7
    assert err.splitlines()[-1] == "7 frames classified, 0 dropped, 1 unreadable"
    assert "broken.jpg: not an image" in caplog.text


@pytest.mark.slow
def test_a_run_stops_after_the_frames_that_were_asked_for(cli, video):
    code, out, err = cli("run", "--source", video, "--frames", "3")
    assert code == 0
    assert [int(line.split()[0]) for line in out.splitlines()] == [0, 1, 2]
    assert err.splitlines()[-1] == "3 frames classified, 0 dropped, 0 unreadable"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data"), [("notes.txt", b"hello\n" * 100), ("video.mp4", b"\0\1\2\3" * 500)])
def test_a_source_that_is_not_a_video_is_a_one_line_error(cli, tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    code, out, err = cli("run", "--source", tmp_path / name)
    assert (code, out) == (1, "")
    assert err == f"error: {tmp_path / name} cannot be opened: OpenCV cannot read it; expected a video or an image\n"
