import json
import os
import sys

import pytest

from edgeclf_runtime.machine import (
    board,
    cores,
    governor,
    is_jetson,
    jetson_linux,
    machine_facts,
    physical_cores,
    power_mode,
    read_text,
)

from .boards import nano, orin, write


def test_figures_carry_the_machine_that_they_were_measured_on():
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert {"machine", "processor", "kernel", "python", "numpy", "opencv", "edgeclf_runtime"} <= set(facts)
    assert json.loads(json.dumps(facts)) == facts


def test_a_version_is_given_of_what_is_loaded_and_nothing_is_loaded_for_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    assert "onnxruntime" not in machine_facts()
    assert "onnxruntime" not in sys.modules


@pytest.mark.parametrize(
    ("siblings", "expected"), [(["0,2", "1,3", "0,2", "1,3"], 2), (["0", "1", "2", "3"], 4), ([], 4)]
)
def test_two_threads_of_one_core_count_once(tmp_path, monkeypatch, siblings, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for number, text in enumerate(siblings):
        write(tmp_path, {f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list": text + "\n"})
    assert cores() == 4
    assert physical_cores(str(tmp_path)) == expected


def test_a_jetson_is_known_by_its_files(tmp_path):
    root = str(nano(tmp_path))
    assert board(root) == "NVIDIA Jetson Nano Developer Kit"
    assert jetson_linux(root) == "R32.7.1"
    assert power_mode(root) == "MAXN (mode 0)"
    assert governor(root) == "schedutil"
    assert is_jetson(root)


def test_a_power_mode_without_a_name_is_its_number(tmp_path):
    orin(tmp_path)
    assert power_mode(str(tmp_path)) == "MAXN_SUPER (mode 2)"
    (tmp_path / "etc/nvpmodel.conf").unlink()
    assert power_mode(str(tmp_path)) == "mode 2"


def test_what_is_no_jetson_has_no_power_mode(tmp_path):
    root = str(tmp_path)
    assert (board(root), jetson_linux(root), power_mode(root), governor(root)) == (None, None, None, None)
    assert not is_jetson(root)


def test_facts_of_a_jetson_are_among_the_facts(tmp_path):
    facts = machine_facts(str(orin(tmp_path)))
    assert facts["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (facts["jetson_linux"], facts["power_mode"]) == ("R36.4.3", "MAXN_SUPER (mode 2)")


def test_a_file_that_never_ends_is_cut(tmp_path):
    write(tmp_path, {"long": "x" * 100000})
    assert len(read_text(str(tmp_path / "long"))) == 65536
    assert read_text(str(tmp_path)) is None
