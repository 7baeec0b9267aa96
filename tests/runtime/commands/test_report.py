import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.commands.report import nvidia, report
from edgeclf_runtime.commands.report.privacy import LONGEST_TEXT, Privacy
from edgeclf_runtime.commands.report.report import BoardReport, write_board_report
from edgeclf_runtime.errors import BackendError
from tests.support.boards import nano, write
from tests.support.starting import output_of, start

HOST, PERSON, PASSWORD, TOKEN = "lab-host-77", "plantedperson", "hunter2-camera", "tok-93hf7"
QUICK = ("--repeat", "3")


def sections(contents):
    """Give every part that ran or failed."""
    if isinstance(contents, dict):
        if {"seconds", "found", "error"} <= set(contents):
            yield contents
        else:
            for value in contents.values():
                yield from sections(value)
    elif isinstance(contents, list):
        for value in contents:
            yield from sections(value)


@pytest.mark.slow
def test_one_command_writes_what_the_machine_can_do(bundle, tmp_path):
    path = tmp_path / "board.json"
    code, out, err = output_of(start(bundle, "report", "--output", path, *QUICK))
    found = json.loads(path.read_text())
    assert (code, found["format"], found["version"]) == (0, report.FORMAT, report.VERSION)
    assert found["bundle"]["id"] == open_bundle(bundle).id[:12]
    assert found["machine"]["found"]["cores"] >= 1
    assert found["doctor"]["found"]["checks"]
    (test,) = [one for one in found["selftests"] if (one["model"], one["backend"]) == ("fp32", "onnxruntime")]
    assert test["found"]["largest_difference"] <= test["found"]["tolerance"]["largest"]
    stages = found["speed"]["onnxruntime"]["found"]["latency_ms"]["fp32"]
    assert 0 < stages["inference"]["p50"] < stages["total"]["p50"]
    assert found["cuda_memory"] == {} or "libcudart" in found["cuda_memory"]
    assert all((one["found"] is None) or (one["error"] is None) for one in sections(found))
    assert "pass: fp32 on onnxruntime: " in out
    assert "golden images of fp32 on onnxruntime" in err
    assert "next: check " in err
    assert path.stat().st_size <= report.MOST_BYTES


@pytest.mark.slow
def test_a_report_that_exists_is_kept_unless_it_may_be_replaced(bundle, tmp_path):
    path = tmp_path / "board.json"
    path.write_text("mine")
    code, _, err = output_of(start(bundle, "report", "--output", path, *QUICK))
    assert (code, path.read_text()) == (1, "mine")
    assert err.endswith("exists: choose another --output, or pass --overwrite\n")


@pytest.mark.slow
def test_a_backend_that_crashes_is_in_the_report_and_the_others_go_on(bundle, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    path = tmp_path / "board.json"
    environment = {"PYTHONPATH": str(tmp_path)}
    code, _, _ = output_of(start(bundle, "report", "--output", path, *QUICK, environment=environment))
    found = json.loads(path.read_text())
    crash = "its process died of a signal: died of SIGSEGV"
    assert found["versions"]["onnxruntime"]["error"] == crash
    assert {one["error"] for one in found["selftests"] if one["backend"] == "onnxruntime"} == {crash}
    assert found["selftests"][-1]["backend"] != "tensorrt"
    passed = [one for one in found["selftests"] if one["found"] and one["found"]["passed"]]
    assert (code, bool(passed)) == (0, True)
    assert set(found["speed"]) == {one["backend"] for one in passed}


@pytest.mark.slow
def test_no_secret_and_no_name_gets_into_the_file(bundle, tmp_path):
    home = tmp_path / "home" / PERSON
    home.mkdir(parents=True)
    shutil.copytree(str(bundle), str(home / "pets.edge"))
    secrets = {
        *(HOST, PERSON, PASSWORD, TOKEN, "stream-pass", "10.20.30.40", "fe80::1ff:fe23:4567:890a"),
        *("02:42:ac:11:00:02", "0423918055", "someone@firm.example"),
    }
    said = (
        f"it broke: {HOST} of {PERSON} in {home}/x: rtsp://admin:stream-pass@10.20.30.40:554/live, {PASSWORD}, {TOKEN}; "
        "from 10.20.30.40, fe80::1ff:fe23:4567:890a, 02:42:ac:11:00:02; serial number: 0423918055; ask someone@firm.example"
    )
    (home / "onnxruntime.py").write_text(f"raise RuntimeError({said!r})\n")
    environment = dict(os.environ, HOME=str(home), USER=PERSON, PYTHONPATH=str(home), API_TOKEN=TOKEN)
    environment["EDGECLF_CAMERA_PASSWORD"] = PASSWORD
    path = home / (TOKEN + ".json")
    command = [sys.executable, str(home / "pets.edge"), "report", "--output", str(path), *QUICK]
    renamed = ["unshare", "-u", "sh", "-c", 'hostname "$0" && exec "$@"', HOST]
    if subprocess.call([*renamed, "true"], stderr=subprocess.DEVNULL) != 0:
        environment["HOSTNAME"] = HOST  # only root may rename the machine, for this program
        renamed = []
    subprocess.check_call([*renamed, *command], env=environment, cwd=str(home), stderr=subprocess.DEVNULL)
    text = path.read_text()
    assert "it broke: *** of *** in ~/x: rtsp://" in text
    assert not [secret for secret in secrets if secret in text]
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_an_interrupted_report_leaves_nothing_behind(bundle, tmp_path):
    process = start(bundle, "report", "--output", tmp_path / "board.json")
    while b"doctor" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    code, _, err = output_of(process)
    assert (code, os.listdir(str(tmp_path))) == (130, [])
    assert "Traceback" not in err


def test_what_does_not_fit_into_the_time_is_left_out(bundle, tmp_path):
    made = write_board_report(bundle, tmp_path / "board.json", minutes=0)
    assert not made.passed
    found = json.loads((tmp_path / "board.json").read_text())
    left = {one["error"] for one in sections(found)}
    assert left == {"left out: the time of --minutes was over"}
    assert not made.tested


def test_a_model_that_fails_its_golden_images_fails_the_report():
    def test(passed):
        return {"model": "fp32", "backend": "opencv", "found": {"passed": passed}, "error": None, "seconds": 1.0}

    missing = dict(test(True), found=None, error="tensorrt is not installed")
    assert BoardReport({"selftests": [test(True), missing]}).passed
    assert not BoardReport({"selftests": [test(True), test(False)]}).passed
    assert not BoardReport({"selftests": [missing]}).passed


def test_a_file_has_a_limit_and_the_largest_part_gives_way():
    small = {"seconds": 1.0, "found": {"a": 1}, "error": None}
    large = {"seconds": 1.0, "found": ["x" * 1000] * 2000, "error": None}
    found = report._bounded({"doctor": dict(small), "selftests": [dict(large)]})
    assert found["doctor"] == small
    assert found["selftests"][0]["found"] is None
    assert found["selftests"][0]["error"] == "left out: its 1960 KB are too many for the file"


def machine(root):
    """A board with a name, a person's account, a serial number and a network card."""
    write(
        nano(root),
        {
            "etc/hostname": "gate-3.example.org\n",
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nmiller:x:1000:1000:Ann Miller,,,:/home/miller:/bin/sh\n",
            "etc/machine-id": "0af1c2d3e4f5a6b7c8d9e0f1a2b3c4d5\n",
            "proc/device-tree/serial-number": "1420921055\0",
        },
    )
    return str(root)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("gate-3 and GATE-3.example.org: 1420921055", "*** and ***: ***"),
        ("of Ann Miller, in /home/miller/a b/x.py", "of ***, in ~/a b/x.py"),
        ("/home/miller2 is another", ".../miller2 is another"),
        ("/opt/root/home/miller/x", "/opt/root/home/***/x"),
        ("/mnt/customer/line 4/pets.edge", ".../line 4/pets.edge"),
        ("id 0af1c2d3e4f5a6b7c8d9e0f1a2b3c4d5", "id ***"),
        ("GPU-5a1b2c3d-1234-abcd-ef01-0123456789ab", "GPU-***"),
        ("at 192.168.1.20:8080, ::1 or 12:34:56", "at ***:8080, *** or 12:34:56"),
        ("token=abcdef99 key sk4f8a9b0c1d2e3f4a5b6c7d", "token=*** key ***"),
        ("https://me:pw@host.example/x?y=1", "https://***"),
    ],
)
def test_what_names_a_machine_or_a_person_is_removed(text, cleaned, tmp_path):
    assert Privacy(root=machine(tmp_path)).clean(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "NVIDIA Jetson Nano Developer Kit",
        "10.13.3.9, as in JetPack 7.0 or 7.1",
        "5.15.148-tegra, R32.7.1, CUDA 12.6",
        "this user may not open /dev/nvhost-gpu; /usr/local/cuda-12/lib64/libcudart.so.12",
        "sudo apt-get install python3-numpy, then run selftest as root",
        "no JPEG: rtsp:// and video files need GStreamer or FFmpeg",
        "clocks 11:45 UTC, cv::error, 3/4 and/or 5 %",
    ],
)
def test_what_a_report_is_for_stays(text, tmp_path):
    assert Privacy(["10.13.3.9"], machine(tmp_path)).clean(text) == text


def test_texts_are_cut_and_numbers_stay(tmp_path):
    cleaned = Privacy(root=str(tmp_path)).clean({"a": ["word " * 1000, 1.5, None, True], "CPU-therm": 41.5})
    assert len(cleaned["a"][0]) == LONGEST_TEXT
    assert (cleaned["a"][1:], cleaned["CPU-therm"]) == ([1.5, None, True], 41.5)


def nvidia_smi(folder, line, status=0):
    """A program that answers as nvidia-smi does."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\necho '{line}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_a_cards_power_and_throttling_are_those_of_nvidia_smi(tmp_path, monkeypatch):
    answer = "NVIDIA RTX A2000, 550.54, 0x0000000000000024, 6138, 61.20, 71, [N/A]"
    program = nvidia_smi(tmp_path, answer)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    assert nvidia.program() == program
    assert nvidia.reading(program) == {
        "gpu": "NVIDIA RTX A2000",
        "driver": "550.54",
        "memory_mb": 6138,
        "power_w": 61.2,
        "temperature_c": 71,
        "clock_mhz": None,
        "throttled": ["power cap", "temperature"],
    }
    monkeypatch.setattr(nvidia, "INTERVAL_S", 0.01)
    with nvidia.Watch(program) as watch:
        while watch.found is None:
            pass
    assert watch.found["power_w"] == 61.2
    assert watch.found["throttled"] == ["power cap", "temperature"]


@pytest.mark.parametrize(("answer", "status"), [("no devices were found", 6), ("one, two", 0)])
def test_a_card_that_does_not_answer_says_why(answer, status, tmp_path):
    with pytest.raises(BackendError, match=answer):
        nvidia.reading(nvidia_smi(tmp_path, answer, status))
