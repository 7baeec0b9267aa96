import json
import os
import sys

import pytest

from edgeclf_runtime.device.machine import (
    board,
    cores,
    governor,
    has_dot_product,
    inference_threads,
    is_emulated,
    is_jetson,
    jetson_linux,
    machine_facts,
    memory_bytes,
    physical_cores,
    power_mode,
    processor_seconds,
    read_text,
)
from tests.support.boards import nano, orin, write


def test_figures_name_the_machine_that_they_were_measured_on():
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert {"machine", "processor", "kernel", "python", "numpy", "opencv", "edgeclf_runtime"} <= set(facts)
    assert json.loads(json.dumps(facts)) == facts


def test_versions_are_those_of_loaded_libraries_and_nothing_is_loaded_for_them(monkeypatch):
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


@pytest.mark.parametrize(("variable", "expected"), [("", 4), ("2", 2), ("3,1", 3), ("16", 4), ("0", 4), ("many", 4)])
def test_an_inference_takes_a_thread_for_each_core_or_what_openmp_may(monkeypatch, tmp_path, variable, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert inference_threads(str(tmp_path)) == expected


def test_a_jetson_is_known_by_its_files(tmp_path):
    root = str(nano(tmp_path))
    assert board(root) == "NVIDIA Jetson Nano Developer Kit"
    assert jetson_linux(root) == "R32.7.1"
    assert power_mode(root) == "MAXN (mode 0)"
    assert governor(root) == "schedutil"
    assert is_jetson(root)


MARKS = {
    "sys/devices/soc0/family": "Tegra\n",
    "sys/module/tegra_fuse/parameters/tegra_chip_id": "33\n",
    "proc/sys/kernel/osrelease": "5.15.148-tegra\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3\n",
    "dev/nvmap": "",
    "dev/nvhost-ctrl": "",
    "dev/nvgpu/igpu0/ctrl": "",
    "usr/lib/aarch64-linux-gnu/tegra/libnvrm.so": "",
    "usr/lib/aarch64-linux-gnu/nvidia/libnvrm_gpu.so": "",
}


@pytest.mark.parametrize("path", sorted(MARKS))
def test_a_jetson_is_known_in_a_container_that_hides_the_device_tree(tmp_path, monkeypatch, path):
    write(tmp_path, {path: MARKS[path]})
    for machine in ("x86_64", "aarch64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert is_jetson(str(tmp_path)) == (machine == "aarch64")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/nv_tegra_release", ""),
        ("sys/devices/soc0/family", "Snapdragon\n"),
        ("proc/sys/kernel/osrelease", "6.8.0-1013-nvidia-64k\n"),
        ("usr/lib/aarch64-linux-gnu/nvidia/current/libcuda.so", ""),
        ("dev/nvidia0", ""),
    ],
)
def test_other_arm_machines_are_not_jetsons(tmp_path, monkeypatch, path, text):
    write(tmp_path, {path: text})
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not is_jetson(str(tmp_path))


def test_a_power_mode_without_a_name_is_its_number(tmp_path):
    orin(tmp_path)
    assert power_mode(str(tmp_path)) == "MAXN_SUPER (mode 2)"
    (tmp_path / "etc/nvpmodel.conf").unlink()
    assert power_mode(str(tmp_path)) == "mode 2"


def test_other_machines_have_no_power_mode(tmp_path):
    root = str(tmp_path)
    assert (board(root), jetson_linux(root), power_mode(root), governor(root)) == (None, None, None, None)
    assert not is_jetson(root)


def test_a_jetsons_facts_are_included(tmp_path):
    facts = machine_facts(str(orin(tmp_path)))
    assert facts["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert (facts["jetson_linux"], facts["power_mode"]) == ("R36.4.3", "MAXN_SUPER (mode 2)")


def test_a_file_that_never_ends_is_cut(tmp_path):
    write(tmp_path, {"long": "x" * 100000})
    assert len(read_text(str(tmp_path / "long"))) == 65536
    assert read_text(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("board_name", "features", "expected"),
    [
        ("Jetson Nano", "fp asimd evtstrm aes pmull sha1 sha2 crc32", False),
        ("Raspberry Pi 4", "fp asimd evtstrm crc32 cpuid", False),
        (
            "Raspberry Pi 5",
            "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm asimddp",
            True,
        ),
        ("Jetson Orin", "fp asimd aes crc32 atomics fphp asimdhp lrcpc dcpop asimddp uscat ilrcpc flagm paca", True),
    ],
)
def test_arm_processors_with_the_dot_product_are_known_by_their_features(
    tmp_path, monkeypatch, board_name, features, expected
):
    cores = "processor\t: {}\nBogoMIPS\t: 62.50\nFeatures\t: {}\nCPU implementer\t: 0x41\n\n"
    write(tmp_path, {"proc/cpuinfo": "".join(cores.format(number, features) for number in range(4))})
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert has_dot_product(str(tmp_path)) == expected
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    assert not has_dot_product(str(tmp_path))


def test_a_processor_that_says_nothing_or_half_of_it_has_no_dot_product(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert not has_dot_product(str(tmp_path))
    write(tmp_path, {"proc/cpuinfo": "Features\t: fp asimd asimddp\n\nFeatures\t: fp asimd\n"})
    assert not has_dot_product(str(tmp_path))


def test_the_processors_time_is_what_linux_says(tmp_path):
    assert processor_seconds(str(tmp_path)) is None
    write(tmp_path, {"proc/stat": "cpu  100 0 200 6000 300 0 0 400 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"})
    tick = os.sysconf("SC_CLK_TCK")
    assert processor_seconds(str(tmp_path)) == (7000 / tick, 700 / tick)
    existed, busy = processor_seconds()
    assert existed > busy > 0


def test_the_memory_is_what_linux_says(tmp_path):
    assert memory_bytes(str(nano(tmp_path))) == (4051044 << 10, 2051044 << 10)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 5 kB\n")
    assert memory_bytes(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("machine", "files", "expected"),
    [
        ("aarch64", {"proc/sys/kernel/arch": "x86_64\n"}, True),
        ("aarch64", {"proc/sys/kernel/arch": "aarch64\n"}, False),
        ("armv7l", {"proc/sys/kernel/arch": "aarch64\n"}, False),
        ("aarch64", {"proc/cpuinfo": "vendor_id\t: AuthenticAMD\n"}, True),
        ("aarch64", {"proc/cpuinfo": "CPU implementer\t: 0x41\n"}, False),
        ("x86_64", {"proc/cpuinfo": "vendor_id\t: AuthenticAMD\n"}, False),
    ],
)
def test_an_emulated_processor_is_known_by_the_kernels_own(machine, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    write(tmp_path, files)
    assert is_emulated(str(tmp_path)) is expected
