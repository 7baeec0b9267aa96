"""Candidates are really measured here, in this process or in the child; no test knows which is the fastest."""

import os
import signal

import pytest

from edgeclf_runtime.bundle.open_bundle import Tolerance
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.classify.tuning import candidate, choice, measure, parent
from edgeclf_runtime.classify.tuning.candidate import Candidate, variants
from edgeclf_runtime.classify.tuning.memory import CAMERA, FILE
from edgeclf_runtime.classify.tuning.parent import Limits
from edgeclf_runtime.classify.tuning.request import Request
from tests.support.boards import write
from tests.support.processes import becomes_true, ends
from tests.support.starting import output_of, start

INT8, ORT, OPENCV = "int8-cpu on onnxruntime", "fp32 on onnxruntime", "fp32 on opencv"
SHORT = Limits(budget_s=0.5, hang_s=60.0, most_s=120.0)
LATE = "the time was too short to measure it"  # of all but the first candidate, if the machine is busy
NEVER = {"default": Tolerance(0.0, 0.0, 0.0)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(measure, "_MOST_ROUNDS", 1)


@pytest.fixture
def opened(two_backends):
    """The bundle for two backends, INT8 first."""
    return two_backends._replace(order={"default": ["int8-cpu", "fp32"]})


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Put a library of that name and source before the real one, for the children too."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(str(folder))
    return lambda name, source: write(folder, {f"{name}.py": source})


def spoiled(bundle, name):
    models = [model._replace(tolerances=NEVER) if model.name == name else model for model in bundle.models]
    return bundle._replace(models=tuple(models))


def answers(bundle, found, purpose=CAMERA):
    sent = []
    measure.measure(bundle, found, purpose, 60.0, sent.append)
    return sent


def blocks(sent):
    return [message["name"] for message in sent if "ms" in message]


def test_variants_are_each_pair_then_several_at_once_then_other_threads(opened, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(candidate, "inference_threads", lambda: 4)
    monkeypatch.setattr(candidate, "cores", lambda: 8)
    names = [one.name for one in variants(candidates(opened, "fp32"), None, 8)]
    threads = [f"{ORT}, 1 thread", f"{ORT}, 2 threads", f"{ORT}, 8 threads"]
    assert names == [ORT, OPENCV, f"{ORT}, 8 at once", *threads]
    assert [one.name for one in variants(candidates(opened, "fp32"), 3)] == [
        f"{ORT}, 3 threads",
        f"{OPENCV}, 3 threads",
    ]


def test_the_candidates_take_turns_and_the_best_is_one_of_them(opened, monkeypatch):
    monkeypatch.setattr(measure, "_CLOSE_AT_ENTRY", 1000.0)
    monkeypatch.setattr(measure, "_CLOSE", 1000.0)
    monkeypatch.setattr(measure, "_MOST_ROUNDS", 2)
    sent = answers(opened, variants(candidates(opened), 1))
    names = [f"{name}, 1 thread" for name in (INT8, ORT, OPENCV)]
    assert blocks(sent) == [name for name in names for _ in range(2)] + names + names[1:] + names[:1]
    assert all(message["ms"] > 0 for message in sent if "ms" in message)
    assert sent[-1]["best"] in names


def test_one_that_is_clearly_slower_is_closed_and_the_contest_ends(opened, monkeypatch):
    monkeypatch.setattr(measure, "_CLOSE_AT_ENTRY", 0.0)
    sent = answers(opened, variants(candidates(opened), 1))
    assert blocks(sent) == [f"{INT8}, 1 thread"] * 2 + [f"{ORT}, 1 thread", f"{OPENCV}, 1 thread"]


def test_if_memory_is_short_one_is_loaded_at_a_time(opened, monkeypatch):
    monkeypatch.setattr(measure, "_CLOSE_AT_ENTRY", 1000.0)
    monkeypatch.setattr(measure, "_CLOSE", 1000.0)
    monkeypatch.setattr(measure, "memory_bytes", lambda: (1 << 30, 1 << 10))
    sent = answers(opened, variants(candidates(opened), 1))
    assert blocks(sent) == [f"{name}, 1 thread" for name in (INT8, ORT, OPENCV) for _ in range(2)]
    assert sent[-1]["best"] != ""


def test_a_candidate_that_fails_its_golden_images_is_never_the_best(opened):
    models = spoiled(opened, "int8-cpu")
    sent = answers(models, variants(candidates(models), 1))
    failed = {message["name"]: message["failed"] for message in sent if "failed" in message}
    assert failed[f"{INT8}, 1 thread"].startswith("FAIL: int8-cpu on onnxruntime")
    assert sent[-1]["best"] in (f"{ORT}, 1 thread", f"{OPENCV}, 1 thread")


def test_if_all_fail_none_is_the_best(opened):
    models = spoiled(spoiled(opened, "int8-cpu"), "fp32")
    sent = answers(models, variants(candidates(models), 1))
    assert sent[-1] == {"best": ""}


def test_a_file_is_measured_as_a_stream_one_after_another_and_several_at_once(opened):
    fp32 = opened.model("fp32")
    found = [Candidate(fp32, "onnxruntime", 1), Candidate(fp32, "onnxruntime", None, 2)]
    sent = answers(opened, found, FILE)
    assert {f"{ORT}, 1 thread", f"{ORT}, 2 at once"} == set(blocks(sent))


def test_a_request_is_the_same_on_the_other_side(opened):
    request = Request(opened, variants(candidates(opened), None, 2), FILE, 5.0)
    found = Request.from_json(request.to_json())
    assert found.candidates[0].model == opened.model("int8-cpu")._replace(metrics={})
    assert [one.name for one in found.candidates] == [one.name for one in request.candidates]
    assert found.bundle.file("golden/000.png").read() == opened.file("golden/000.png").read()
    assert (found.bundle.labels, found.bundle.preprocessing) == (opened.labels, opened.preprocessing)


def test_the_child_gives_a_figure_or_a_reason_for_each(opened):
    found = variants(candidates(opened), 1)
    figures = parent.measure(opened, found, CAMERA, SHORT)
    assert figures.latency_ms.keys() | figures.failures.keys() == {one.name for one in found}
    assert figures.latency_ms
    assert not figures.latency_ms.keys() & figures.failures.keys()
    assert set(figures.failures.values()) <= {LATE}
    assert figures.crashed == ()


KILLED = "the measuring process was killed, most likely because memory ran out"


@pytest.mark.parametrize(
    ("source", "reason", "crashed"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "it ended the measuring process (SIGSEGV)", True),
        ("import os\nos._exit(3)", "it ended the measuring process (exit status 3)", True),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", KILLED, False),
    ],
    ids=["segfault", "exit", "memory"],
)
def test_a_library_that_ends_the_child_is_passed_over(opened, library, source, reason, crashed):
    library("openvino", source)
    fp32 = opened.model("fp32")
    found = [Candidate(fp32, "openvino"), Candidate(fp32, "opencv"), Candidate(fp32, "onnxruntime", 1)]
    figures = parent.measure(opened, found, CAMERA, SHORT)
    assert figures.failures.pop("fp32 on openvino") == reason
    assert OPENCV in figures.latency_ms
    assert figures.failures in ({}, {f"{ORT}, 1 thread": LATE})
    assert figures.crashed == ("fp32 on openvino",) * crashed


@pytest.mark.slow
def test_a_library_that_hangs_fails_and_the_others_are_measured(opened, library):
    library("openvino", "import time\ntime.sleep(600)")
    fp32 = opened.model("fp32")
    found = [Candidate(fp32, "openvino"), Candidate(fp32, "opencv")]
    figures = parent.measure(opened, found, CAMERA, SHORT._replace(hang_s=10.0))
    assert set(figures.latency_ms) == {OPENCV}
    assert figures.failures == {"fp32 on openvino": "it did not answer within 10 s"}
    assert figures.crashed == ()


def test_when_the_time_is_over_what_was_measured_counts(opened, library):
    library("openvino", "import time\ntime.sleep(600)")
    fp32 = opened.model("fp32")
    figures = parent.measure(opened, [Candidate(fp32, "openvino")], CAMERA, SHORT._replace(most_s=0.5))
    assert figures.failures == {"fp32 on openvino": LATE}


def test_a_child_that_cannot_start_blames_no_candidate(opened, monkeypatch):
    monkeypatch.setattr(parent, "_MODULE", "classify.tuning.nowhere")
    figures = parent.measure(opened, [Candidate(opened.model("fp32"), "opencv")], CAMERA, SHORT)
    assert (figures.latency_ms, figures.crashed) == ({}, ())


def measuring_child(pid):
    """The number of the measuring process of a program, or None.  Its parent is the thread that starts processes."""
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as stream:
            for child in stream.read().split():
                with open(f"/proc/{child}/cmdline") as command:
                    if "classify.tuning.child" in command.read():
                        return int(child)
    return None


@pytest.mark.slow
def test_a_first_start_measures_once_and_ctrl_c_ends_it(bundle):
    on = {choice.NO_TUNE: ""}
    arguments = ("run", "--source", "test://", "--frames", "1")
    process = start(bundle, *arguments, environment=on)
    found = []
    assert becomes_true(lambda: found.append(measuring_child(process.pid)) or found[-1])
    process.send_signal(signal.SIGINT)
    code, out, err = output_of(process)
    assert (code, out) == (130, "")
    assert ends(found[-1])
    assert "Traceback" not in err
    code, out, err = output_of(start(bundle, *arguments, environment=on))
    assert (code, len(out.splitlines())) == (0, 1)
    assert "\nmeasured " in "\n" + err
    code, out, err = output_of(start(bundle, *arguments, environment=on))
    assert code == 0
    assert "measured" not in err
