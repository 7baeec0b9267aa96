"""Frame memory when there is little: /dev/shm as small as in a container, missing or read-only."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import edgeclf_runtime
from edgeclf_runtime.capture import frame_memory
from edgeclf_runtime.capture.frame_memory import FrameMemory, anonymous_file, has_memfd, reserve
from edgeclf_runtime.errors import CameraError
from tests.support.starting import WAIT_S

HOME = os.path.dirname(os.path.dirname(os.path.abspath(edgeclf_runtime.__file__)))
CODE = """
import logging, os, sys
sys.path.insert(0, {home!r})
logging.basicConfig(format="%(message)s")
from edgeclf_runtime.capture import frame_memory
from edgeclf_runtime.capture.parent import CaptureProcess
from edgeclf_runtime.errors import CameraError
from edgeclf_runtime.capture.source import Source
if not {memfd}:
    frame_memory._memfd = lambda: -1
cameras = []
for number in range({count}):
    source = Source("test", "", "test://%d" % number, width={width}, height={height}, fps=30)
    try:
        cameras.append(CaptureProcess(source).wait_opened())
    except CameraError as error:
        print("lost: %s" % error)
for camera in cameras:
    try:
        for _ in range(8):
            image = camera.read().image
        print("frames of", image.shape[1], "x", image.shape[0])
    except CameraError as error:
        print("lost: %s" % error)
for camera in cameras:
    camera.close()
print(os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else [], os.listdir(os.environ["TMPDIR"]))
"""
LARGE, TWO = {"count": 1, "width": 3840, "height": 2160}, {"count": 2, "width": 1920, "height": 1080}


@pytest.fixture
def small(tmp_path):
    """Open generated cameras in a mount namespace with its own /dev/shm and TMPDIR; returns what was printed."""

    def run(cameras, memfd, *mounts):
        (tmp_path / "tmp").mkdir(exist_ok=True)
        script = " && ".join(("mount --make-rprivate /", *mounts, 'exec "$@"'))
        code = CODE.format(home=HOME, memfd=memfd, **cameras)
        command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-B", "-c", code]
        if subprocess.call(["unshare", "-m", "true"], stderr=subprocess.DEVNULL) != 0:
            pytest.skip("a mount namespace needs root")
        environment = dict(os.environ, TMPDIR=str(tmp_path / "tmp"), FOLDER=str(tmp_path / "tmp"))
        return subprocess.check_output(command, stderr=subprocess.STDOUT, env=environment, timeout=WAIT_S).decode(
            "utf-8"
        )

    return run


SHM = "mount -t tmpfs -o size={} tmpfs /dev/shm"
TMP = 'mount -t tmpfs -o size=4m tmpfs "$FOLDER"'


@pytest.mark.slow
@pytest.mark.parametrize("memfd", [True, False])
@pytest.mark.parametrize(
    "shm",
    [
        SHM.format("64m"),
        SHM.format("1m"),
        SHM.format("64m,ro"),
        SHM.format("200m,noexec"),
        "mount -t tmpfs -o ro tmpfs /dev",
    ],
)
def test_one_source_of_4k_has_frames_whatever_dev_shm_is(small, memfd, shm):
    if shm.endswith("/dev"):  # without /dev/shm; the null device is needed
        shm = "mkdir -p $FOLDER/dev && touch $FOLDER/dev/null && mount --bind /dev/null $FOLDER/dev/null"
        shm += " && mount --rbind $FOLDER/dev /dev"
    out = small(LARGE, memfd, shm)
    assert "frames of 3840 x 2160" in out, out
    assert "signal" not in out
    if memfd:
        assert "are kept in" not in out


@pytest.mark.slow
@pytest.mark.parametrize("memfd", [True, False])
def test_two_sources_of_1080p_have_frames_in_64_mb(small, memfd):
    out = small(TWO, memfd, SHM.format("64m"))
    assert out.count("frames of 1920 x 1080") == 2, out
    assert out.count("--shm-size=128m") == (0 if memfd else 1)
    assert out.splitlines()[-1] == "[] []"


@pytest.mark.slow
def test_without_room_anywhere_the_error_says_how_much_is_needed_and_found(small):
    out = small(LARGE, False, SHM.format("1m"), TMP)
    assert "lost: the frames of test://0 need 149 MB of shared memory: /dev/shm has 1 MB free of 1 MB (" in out
    assert "has 4 MB free of 4 MB (No space left on device); in a container use docker run --shm-size=512m" in out
    assert out.splitlines()[-1] == "[] []"


def test_a_reservation_takes_the_first_file_with_room_and_leaves_the_others_empty(small_disk, tmp_path):
    with open(str(small_disk("64k") / "small"), "w+b") as small, open(str(tmp_path / "large"), "w+b") as large:
        assert reserve([small.fileno(), large.fileno()], 1 << 20, "a test") == large.fileno()
        assert [os.fstat(file.fileno()).st_size for file in (small, large)] == [0, 1 << 20]
        assert reserve([small.fileno(), large.fileno()], 1 << 14, "a test") == small.fileno()
        with pytest.raises(CameraError, match=r"the frames of a test need 1 MB of shared memory: .*disk has 0 MB free"):
            reserve([small.fileno()], 1 << 20, "a test")


def test_more_than_a_container_may_use_is_refused_at_once(monkeypatch):
    monkeypatch.setattr(frame_memory, "memory_limit", lambda: 100 * 1000 * 1000)
    with pytest.raises(CameraError, match=r"need 149 MB of memory, but this container may use only 100 MB: .*--memory"):
        reserve([], 149299200, "a test")


def test_reserved_memory_is_there(tmp_path):
    memory = FrameMemory()
    reserve(memory.handles, 1 << 20, "a test")
    assert os.fstat(memory.fileno()).st_blocks * 512 >= 1 << 20
    with memory.open(1 << 20) as mapped:
        mapped[-1:] = b"x"
    memory.close()


def test_without_a_memfd_and_any_folder_there_is_an_error_and_not_a_traceback(monkeypatch):
    monkeypatch.setattr(frame_memory, "_memfd", lambda: -1)
    monkeypatch.setattr(frame_memory, "SHARED", "/nonexistent")
    monkeypatch.setattr(frame_memory, "temporary_folder", lambda: None)
    with pytest.raises(CameraError, match=r"neither /nonexistent nor the temporary folder.*--shm-size"):
        FrameMemory()
    with pytest.raises(OSError, match="neither /nonexistent"):
        anonymous_file()


def test_a_c_library_without_the_function_has_memfds_by_the_kernels_number(monkeypatch):
    if not has_memfd():
        pytest.skip("this kernel has no memfd")
    old = SimpleNamespace(syscall=ctypes.CDLL(None).syscall)
    monkeypatch.setattr(frame_memory.ctypes, "CDLL", lambda name: old)
    assert has_memfd()
