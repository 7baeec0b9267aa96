"""Limits of containers: file trees as kernels show them, and this machine's own groups if they can be created."""

import contextlib
import os
import subprocess
import sys

import pytest

from edgeclf_runtime.device.cgroups import cpu_quota, memory_limit
from edgeclf_runtime.device.machine import cores, physical_cores, quota_cores
from tests.support.boards import write

V2 = "30 23 0:26 {group} {folder} rw,nosuid - cgroup2 cgroup rw,nsdelegate\n"
V1 = "31 23 0:29 {group} {folder} rw - cgroup cgroup rw,{controllers}\n"


@pytest.fixture(autouse=True)
def _eight(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def v2(root, own, folder="/sys/fs/cgroup", group="/", **files):
    """Lay out version 2: ``own`` is the content of /proc/self/cgroup, ``files`` are cpu.max by the folder below the mount."""
    write(root, {"proc/self/cgroup": f"0::{own}\n", "proc/self/mountinfo": V2.format(group=group, folder=folder)})
    return str(root)


def test_without_groups_nothing_is_limited(tmp_path):
    assert (cpu_quota(str(tmp_path)), memory_limit(str(tmp_path))) == (None, None)
    assert (cores(str(tmp_path)), quota_cores(str(tmp_path))) == (8, None)


@pytest.mark.parametrize(
    ("text", "quota", "count"),
    [
        ("50000 100000", 0.5, 1),
        ("100000 100000", 1.0, 1),
        ("150000 100000", 1.5, 2),
        ("25000 50000", 0.5, 1),
        ("900000 100000", 9.0, 8),
        ("max 100000", None, 8),
        ("", None, 8),
        ("garbage", None, 8),
        ("0 0", None, 8),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cores(tmp_path, text, quota, count):
    root = v2(tmp_path, "/")
    write(tmp_path, {"sys/fs/cgroup/cpu.max": text + "\n"})
    assert (cpu_quota(root), cores(root), physical_cores(root)) == (quota, count, count)
    assert quota_cores(root) == (count if count < 8 else None)


def test_the_smallest_quota_from_the_own_group_up_to_the_mounted_one_counts(tmp_path):
    root = v2(tmp_path, "/a.slice/b.scope/c")
    write(tmp_path, {"sys/fs/cgroup/a.slice/b.scope/c/cpu.max": "max 100000"})
    write(tmp_path, {"sys/fs/cgroup/a.slice/b.scope/cpu.max": "400000 100000"})
    write(tmp_path, {"sys/fs/cgroup/a.slice/cpu.max": "200000 100000", "sys/fs/cgroup/other/cpu.max": "10000 100000"})
    assert cpu_quota(root) == 2.0


def test_in_a_container_without_a_namespace_of_groups_its_own_is_the_one_that_is_mounted(tmp_path):
    root = v2(tmp_path, "/docker/0123/inner", group="/docker/0123")
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "300000 100000", "sys/fs/cgroup/inner/cpu.max": "200000 100000"})
    assert cpu_quota(root) == 2.0
    write(tmp_path, {"proc/self/cgroup": "0::/docker/4567\n"})  # a path that leads nowhere here
    assert cpu_quota(root) == 3.0
    write(tmp_path, {"proc/self/cgroup": "0::/../../elsewhere\n"})
    assert cpu_quota(root) == 3.0


def test_version_1_at_an_unusual_path_with_blanks(tmp_path):
    mounts = V1.format(group="/", folder="/odd/c\\040pu", controllers="cpuacct,cpu")
    mounts += V1.format(group="/", folder="/odd/memory", controllers="memory")
    mounts += V1.format(group="/", folder="/odd/systemd", controllers="name=systemd")
    write(tmp_path, {"proc/self/mountinfo": mounts})
    write(tmp_path, {"proc/self/cgroup": "4:memory:/box\n3:cpuacct,cpu:/box/deep\n1:name=systemd:/x\n"})
    write(tmp_path, {"odd/c pu/box/cpu.cfs_quota_us": "250000\n", "odd/c pu/box/cpu.cfs_period_us": "100000\n"})
    write(tmp_path, {"odd/c pu/box/deep/cpu.cfs_quota_us": "-1\n", "odd/c pu/box/deep/cpu.cfs_period_us": "100000\n"})
    write(tmp_path, {"odd/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert (cpu_quota(str(tmp_path)), memory_limit(str(tmp_path))) == (2.5, None)
    write(tmp_path, {"odd/memory/box/memory.limit_in_bytes": "268435456\n"})
    assert memory_limit(str(tmp_path)) == 268435456


def test_groups_of_others_that_are_mounted_do_not_count(tmp_path):
    mounts = V1.format(group="/docker/other", folder="/mnt/other", controllers="cpu")
    mounts += V1.format(group="/", folder="/sys/fs/cgroup/cpu", controllers="cpu")
    write(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": "1:cpu:/mine\n"})
    for folder in ("mnt/other", "sys/fs/cgroup/cpu/docker/other"):
        write(tmp_path, {f"{folder}/cpu.cfs_quota_us": "10000\n", f"{folder}/cpu.cfs_period_us": "100000\n"})
    assert cpu_quota(str(tmp_path)) is None


def test_the_usual_mounts_are_tried_if_the_list_cannot_be_read(tmp_path):
    write(tmp_path, {"sys/fs/cgroup/memory.max": "134217728\n"})
    write(tmp_path, {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n"})
    write(tmp_path, {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n"})
    assert (cpu_quota(str(tmp_path)), memory_limit(str(tmp_path))) == (0.5, 134217728)


@contextlib.contextmanager
def real_group(**limits):
    """A nested control group of this kernel, version 1 or 2, whose outer group has a quota of half a processor."""
    for base, files in (
        ("/sys/fs/cgroup/cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"}),
        ("/sys/fs/cgroup", {"cpu.max": "50000 100000"}),
    ):
        outer = os.path.join(base, f"edgeclf-test-{os.getpid()}")
        inner = os.path.join(outer, "inner")
        try:
            os.makedirs(inner)
            for name, value in files.items():
                with open(os.path.join(outer, name), "r+") as stream:
                    stream.write(value)
            yield inner
            return
        except OSError:
            continue
        finally:
            for folder in (inner, outer):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
    pytest.skip("control groups cannot be made here")


@pytest.mark.slow
def test_a_real_quota_limits_the_threads_of_every_backend():
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "from edgeclf_runtime.device.machine import cores, physical_cores, quota_cores\n"
        "from edgeclf_runtime.runners import _hold_opencv_to_limit\n"
        "import cv2; cv2.setNumThreads(2); _hold_opencv_to_limit()\n"
        "print(cores(), physical_cores(), cv2.getNumThreads(), len(os.sched_getaffinity(0)))"
    )
    with real_group() as group:
        command = [sys.executable, "-c", code, os.path.join(group, "cgroup.procs")]
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        found = subprocess.check_output(command, env=environment).decode("utf-8").split()
    assert found[:3] == ["1", "1", "1"]
