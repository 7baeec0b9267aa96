"""The rights that the capture process gives up, tried for real: each attempt runs in a confined child."""

import os
import re
import socket
import struct
import sys

import pytest

from edgeclf_runtime.capture.sandbox import confine, landlock, seccomp
from edgeclf_runtime.capture.source import Source
from edgeclf_runtime.commands.doctor.checks import ask

# What an exploited decoder might try.  Each is refused with one of these.
REFUSALS = {"EPERM", "EACCES", "ENOSYS", "MemoryError", "ValueError"}
ATTEMPTS = """
def read_a_file_of_the_user(): open(SECRET).read()
def list_a_folder_of_the_user(): os.listdir(os.path.dirname(SECRET))
def overwrite_a_file(): open(SECRET, "r+b").write(b"x")
def create_a_file(): open(SECRET + ".new", "w")
def append_to_a_file(): os.open(SECRET, os.O_WRONLY | os.O_APPEND)
def remove_a_file(): os.unlink(SECRET)
def move_a_file(): os.rename(SECRET, SECRET + ".moved")
def link_to_a_file(): os.symlink(SECRET, SECRET + ".link")
def make_a_folder(): os.mkdir(SECRET + ".folder")
def change_a_files_mode(): os.chmod(SECRET, 0o777)
def shorten_a_file(): os.truncate(SECRET, 0)
def run_a_program(): os.execv("/bin/true", ["/bin/true"])
def start_a_process(): os._exit(0) if not os.fork() else os.wait()
def start_a_program(): subprocess.check_call(["/bin/true"])
def read_another_process(): open("/proc/%d/environ" % os.getppid()).read()
def list_other_processes(): os.listdir("/proc")
def signal_another_process(): os.kill(os.getppid(), 0)
def trace_another_process(): call("ptrace", 16, os.getppid(), 0, 0)
def write_another_processs_memory(): call("process_vm_writev", os.getppid(), 0, 0, 0, 0, 0)
def connect_elsewhere(): socket.create_connection(("127.0.0.1", PORT), 5)
def connect_to_a_unix_socket(): socket.socket(socket.AF_UNIX).connect(SECRET)
def listen(): s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
def open_a_raw_socket(): socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
def open_a_packet_socket(): socket.socket(17, socket.SOCK_DGRAM)
def mount(): call("mount", 0, 0, 0, 0, 0)
def load_a_filter_into_the_kernel(): call("bpf", 0, 0, 0)
def leave_the_namespace(): call("unshare", 0x10000000)
def read_the_keyring(): call("keyctl", 0, -3, 0, 0, 0)
def start_io_uring(): call("io_uring_setup", 8, 0)
def raise_a_limit(): resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, 1 << 20))
def take_four_gigabytes(): numpy.ones(4 << 30, numpy.uint8)
"""
PROBE = """
import ctypes, errno, json, os, platform, resource, socket, subprocess, threading
import cv2, numpy
from edgeclf_runtime.capture.sandbox import confine as sandbox, landlock, seccomp
from edgeclf_runtime.capture.source import Source
SECRET, PORT, without, only = {secret!r}, {port}, {without!r}, {only!r}
if "landlock" in without: landlock.version = lambda: 0
if "seccomp" in without: seccomp.install = lambda *arguments, **options: False
def call(name, *arguments):
    number = seccomp.SYSCALLS[name][platform.machine() == "aarch64"]
    ctypes.set_errno(0)
    kernel = ctypes.CDLL(None, use_errno=True).syscall
    if kernel(number, *[ctypes.c_long(argument) for argument in arguments]) < 0:
        raise OSError(ctypes.get_errno(), name)
attempts = {{}}
scope = dict(globals(), **locals())
exec({attempts!r}, scope, attempts)
scope.update(attempts)
held = sandbox.confine(Source(**{source!r}), 1 << 20)
found = {{}}
for name, attempt in attempts.items():
    if only and name not in only:
        continue
    try:
        attempt()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error.errno))
    except (MemoryError, ValueError) as error:
        found[name] = type(error).__name__
thread = threading.Thread(target=found.setdefault, args=("thread", "done"))
thread.start()
thread.join()
found["limits"] = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
return held, found
"""
ADDRESS = ["127.0.0.1", 9]
SOURCES = {
    "file": Source("file", "", "video.avi"),
    "network": Source("network", "rtsp://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x", address=ADDRESS),
    "device": Source("device", "0", "/dev/video0"),
    "test": Source("test", "", "test://"),
    "gstreamer": Source("gstreamer", "videotestsrc", "gst://videotestsrc"),
    "hardware": Source("network", "rtsp://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x", address=ADDRESS, pipeline="rtspsrc"),
}
CLOSED = sorted(set(SOURCES) - {"gstreamer", "hardware"})
with_landlock = pytest.mark.skipif(landlock.version() < 6, reason="this kernel has no Landlock, or an older one")
# What is allowed on a kernel without Landlock.
ONLY_LANDLOCK = {"read_a_file_of_the_user", "list_a_folder_of_the_user", "list_other_processes", "read_another_process"}


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Confine a child for a kind of source; returns what is in force and the outcome of each attempt."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    secret = tmp_path / "secret"
    secret.write_text("private")
    (tmp_path / "video.avi").write_text("video")

    def run(kind, *without, only=()):
        source = SOURCES[kind]
        if kind == "file":
            source = source._replace(location=str(tmp_path / "video.avi"))
        with socket.socket() as elsewhere:
            elsewhere.bind(("127.0.0.1", 0))
            elsewhere.listen(1)
            answer = ask(
                PROBE.format(
                    secret=str(secret),
                    port=elsewhere.getsockname()[1],
                    source=dict(source._asdict()),
                    attempts=ATTEMPTS,
                    without=without,
                    only=only,
                )
            )
        assert answer.found, answer
        assert secret.read_text() == "private"
        return answer.found

    return run


def allowed(found):
    """The attempts that were not refused."""
    return {name for name, result in found.items() if name not in ("thread", "limits") and result not in REFUSALS}


@with_landlock
@pytest.mark.parametrize("kind", CLOSED)
def test_a_decoder_can_do_nothing_but_decode(tried, kind):
    held, found = tried(kind)
    assert held == ["limits", "no-new-privs", f"landlock {landlock.version()}", "seccomp"]
    assert allowed(found) == set()
    assert found["thread"] == "done"
    assert found["limits"] == [0, 1 << 20]


@pytest.mark.parametrize("kind", ["file", "network", "test"])
def test_without_landlock_a_decoder_can_read_and_nothing_else(tried, kind):
    held, found = tried(kind, "landlock")
    assert held == ["limits", "no-new-privs", "seccomp"]
    assert allowed(found) <= ONLY_LANDLOCK | ({"connect_elsewhere"} if kind == "network" else set())


@with_landlock
def test_without_seccomp_a_decoder_reaches_no_file_and_no_port(tried):
    names = ("read_a_file_of_the_user", "overwrite_a_file", "create_a_file", "connect_elsewhere", "run_a_program")
    held, found = tried("file", "seccomp", only=names)
    assert held[2:] == [f"landlock {landlock.version()}"]
    for name in names:
        assert found[name] in REFUSALS


def test_a_kernel_without_either_still_limits(tried):
    held, found = tried("file", "landlock", "seccomp", only=("take_four_gigabytes",))
    assert held == ["limits", "no-new-privs"]
    assert found["take_four_gigabytes"] == "MemoryError"


def test_a_pipeline_may_start_programs_and_never_gains_rights(tried):
    refused = ("trace_another_process", "mount", "load_a_filter_into_the_kernel", "leave_the_namespace")
    held, found = tried("gstreamer", only=("start_a_program", "read_a_file_of_the_user", *refused))
    assert held == ["limits", "no-new-privs", "seccomp"]
    assert found["start_a_program"] == found["read_a_file_of_the_user"] == "done"
    assert {found[name] for name in refused} == {"EPERM"}


@with_landlock
def test_a_decoder_in_hardware_reaches_no_other_port(tried):
    names = ("start_a_program", "read_a_file_of_the_user", "connect_elsewhere", "listen", "trace_another_process")
    held, found = tried("hardware", only=names)
    assert held == ["limits", "no-new-privs", f"landlock {landlock.version()} for ports", "seccomp"]
    assert [found[name] for name in names] == ["done", "done", "EACCES", "EACCES", "EPERM"]


def test_another_system_or_processor_gives_up_less_and_works(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert not seccomp.install(["ptrace"])
    monkeypatch.setattr(sys, "platform", "darwin")
    assert landlock.version() == 0
    assert confine.confine(SOURCES["test"], 1) == []


@pytest.mark.parametrize(
    ("header", "column"), [("x86_64-linux-gnu/asm/unistd_64.h", 0), ("asm-generic/unistd.h", 1)], ids=["x86", "arm64"]
)
def test_the_numbers_of_system_calls_are_the_kernels(header, column):
    path = "/usr/include/" + header
    if not os.path.exists(path):
        pytest.skip("linux-libc-dev is not installed")
    with open(path) as stream:
        found = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", stream.read()))
    known = {name: numbers[column] for name, numbers in seccomp.SYSCALLS.items() if name in found}
    assert len(known) > 70
    assert known == {name: int(found[name]) for name in known}


ALLOWED, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
NUMBERS = {"x86_64": {"read": 0, "openat": 257, "execve": 59, "clone": 56, "socket": 41, "kill": 62, "clone3": 435}}
NUMBERS["aarch64"] = {"read": 63, "openat": 56, "execve": 221, "clone": 220, "socket": 198, "kill": 129, "clone3": 435}
ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CALLS = [
    ("read", (0, 0), ALLOWED),
    ("execve", (0,), EPERM),
    ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC), ALLOWED),
    ("openat", (0, 0, os.O_WRONLY), EPERM),
    ("openat", (0, 0, os.O_RDWR), EPERM),
    ("openat", (0, 0, os.O_CREAT), EPERM),
    ("clone", (0x3D0F00,), ALLOWED),  # a thread, as glibc starts it
    ("clone", (0x1200011,), EPERM),  # a process
    ("clone3", (0, 0), ENOSYS),
    ("socket", (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC), ALLOWED),
    ("socket", (socket.AF_INET6, socket.SOCK_DGRAM), ALLOWED),
    ("socket", (socket.AF_INET, socket.SOCK_RAW), EPERM),
    ("socket", (16, socket.SOCK_RAW), ALLOWED),
    ("socket", (socket.AF_UNIX, socket.SOCK_STREAM), EPERM),
    ("kill", (os.getpid(), 6), ALLOWED),
    ("kill", (os.getppid(), 0), EPERM),
]


def verdict(program, arch, number, arguments):
    """The kernel's decision: interprets the few BPF instructions that a filter uses."""
    data = struct.pack("IIQ6Q", number, arch, 0, *(list(arguments) + [0] * 6)[:6])
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("I", data, value)
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return value
        else:
            test = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += if_true if test[code] else if_false


@pytest.mark.parametrize("machine", sorted(ARCHES))
def test_a_filter_refuses_the_same_on_every_processor(machine):
    program = seccomp.program(machine, ["execve"], [2, 10, 16], writing=False, starting=False)
    for name, arguments, expected in CALLS:
        found = verdict(program, ARCHES[machine], NUMBERS[machine][name], arguments)
        assert (name, arguments, hex(found)) == (name, arguments, hex(expected))
    assert verdict(program, 0x40000003, NUMBERS[machine]["read"], ()) == EPERM  # as a 32-bit program
    if machine == "x86_64":
        assert verdict(program, ARCHES[machine], 0x40000000, ()) == EPERM
