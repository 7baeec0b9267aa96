"""Outputs whose process was killed, or whose disk failed, at any moment."""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.files import filesystem, stage
from edgeclf_runtime.files.outputs import claim_output, new_file, new_folder
from tests.support.kills import kill_at, kill_everywhere, tree

OLD = {"marker": b"old", "only-old": b"", "sub": None, "sub/file": b"old"}
NEW = {"marker": b"new", "sub": None, "sub/file": b"new"}


@pytest.fixture(params=["exchange", "no exchange"])
def exchange(request, monkeypatch):
    """With and without a file system that can exchange two names (NFS cannot)."""

    def refuse(first, second):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if request.param == "no exchange":
        monkeypatch.setattr(stage, "exchange", refuse)
    return request.param == "exchange"


@pytest.fixture
def home(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return path


def write_tree(folder, contents):
    os.makedirs(str(folder), exist_ok=True)
    for name in sorted(contents):
        path = os.path.join(str(folder), name)
        if contents[name] is None:
            os.mkdir(path)
        else:
            with open(path, "wb") as stream:
                stream.write(contents[name])


def reset(home):
    """Leave only the old folder and the old file."""
    for name in os.listdir(str(home)):
        stage.discard(str(home / name))
    write_tree(home / "folder", OLD)
    (home / "file").write_bytes(b"old")


def write_folder(home):
    with new_folder(home / "folder", overwrite=True, marker="marker") as work:
        write_tree(work, NEW)


def write_file(home):
    with new_file(home / "file", overwrite=True) as work, open(work, "wb") as stream:
        stream.write(b"new")


def hidden(home):
    return sorted(name for name in os.listdir(str(home)) if name.startswith("."))


@pytest.mark.slow
def test_a_folder_is_the_old_or_the_new_one_wherever_its_process_is_killed(home, exchange):
    reset(home)
    found = []
    for moment in kill_everywhere(lambda: write_folder(home)):
        if not exchange:
            claim_output(home / "folder", overwrite=True, marker="marker")
        found.append(tree(home / "folder"))
        assert found[-1] in (OLD, NEW), moment
        claim_output(home / "folder", overwrite=True, marker="marker")
        assert (tree(home / "folder"), hidden(home)) == (found[-1], []), moment
        reset(home)
    assert OLD in found
    assert NEW in found


@pytest.mark.slow
def test_a_file_is_the_old_or_the_new_one_wherever_its_process_is_killed(home, exchange):
    reset(home)
    found = []
    for moment in kill_everywhere(lambda: write_file(home)):
        found.append((home / "file").read_bytes())
        write_file(home)
        assert ((home / "file").read_bytes(), hidden(home)) == (b"new", []), moment
        reset(home)
    assert set(found) == {b"old", b"new"}


@pytest.mark.slow
def test_a_new_output_is_not_there_or_whole_wherever_its_process_is_killed(home, exchange):
    for name, write in (("folder", write_folder), ("file", write_file)):
        for moment in kill_everywhere(lambda: write(home)):  # noqa: B023
            assert tree(home / "folder") in (None, NEW), moment
            claim_output(home / name, overwrite=True, marker="marker" if name == "folder" else None)
            assert hidden(home) == [], moment
            for left in os.listdir(str(home)):
                stage.discard(str(home / left))


@pytest.mark.parametrize("write", [write_folder, write_file])
def test_everything_is_on_the_disk_before_the_name_changes_and_the_name_after(home, monkeypatch, write):
    reset(home)
    done = []

    def recorded(name, function):
        def call(*args):
            done.append((name, os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else None))
            return function(*args)

        return call

    monkeypatch.setattr(os, "fsync", recorded("fsync", os.fsync))
    monkeypatch.setattr(filesystem, "_renameat2", recorded("exchange", filesystem._renameat2))
    write(home)
    at = done.index(("exchange", None))
    work = str(home / (".edgeclf_.folder" if write is write_folder else ".edgeclf_.file"))
    inside = [work] + [os.path.join(work, name) for name in NEW] if write is write_folder else [work]
    assert sorted(path for _, path in done[:at]) == sorted(inside)
    assert done[at + 1 :] == [("fsync", str(home))]


def failing(number, error, monkeypatch):
    """Make the ``number``-th fsync fail; return the list of calls."""
    made, fsync = [], os.fsync

    def fail(descriptor):
        made.append(descriptor)
        if len(made) == number:
            raise OSError(error, os.strerror(error))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail)
    return made


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("write", [write_folder, write_file])
def test_a_disk_that_fails_leaves_the_old_output(home, monkeypatch, write, error):
    reset(home)
    before = tree(home)
    flushes = 5 if write is write_folder else 2
    for number in range(1, flushes + 1):
        with monkeypatch.context() as patch:
            failing(number, error, patch)
            with pytest.raises(OutputError, match=os.strerror(error)):
                write(home)
        assert tree(home) == before
    made = failing(0, error, monkeypatch)
    write(home)
    assert len(made) == flushes


def test_a_disk_that_fails_leaves_no_new_output(home, monkeypatch):
    for write in (write_folder, write_file):
        for number in (1, 2):
            with monkeypatch.context() as patch:
                failing(number, errno.EIO, patch)
                with pytest.raises(OutputError, match="Input/output error"):
                    write(home)
            assert os.listdir(str(home)) == []


def test_a_file_system_that_cannot_flush_folders_is_written(home, monkeypatch):
    fsync = os.fsync

    def refuse(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    reset(home)
    write_folder(home)
    write_file(home)
    assert tree(home / "folder") == NEW
    assert (home / "file").read_bytes() == b"new"


def test_a_file_system_that_refuses_modes_is_written(home, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "chown", refuse)
    write_folder(home)
    write_file(home)
    assert sorted(os.listdir(str(home))) == ["file", "folder"]


def test_an_output_that_is_easily_made_again_need_not_wait_for_the_disk(home, monkeypatch):
    made = failing(0, 0, monkeypatch)
    with new_file(home / "file", durable=False), new_folder(home / "folder", durable=False):
        pass
    assert made == []
    assert sorted(os.listdir(str(home))) == ["file", "folder"]


WRITER = """
import sys
from edgeclf_runtime.files import outputs
with getattr(outputs, sys.argv[1])(sys.argv[2]):
    print("at work", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(kind, path):
    """A process that is writing an output, and succeeds when its stdin is closed."""
    command = [sys.executable, "-c", WRITER, kind, str(path)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout.readline() == b"at work\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["new_file", "new_folder"])
def test_a_second_process_gets_an_error_and_the_first_its_output(home, monkeypatch, kind):
    monkeypatch.setattr(stage, "WAIT_S", 0)
    new = {"new_file": new_file, "new_folder": new_folder}[kind]
    with writer(kind, home / "out") as process:
        for attempt in (lambda: claim_output(home / "out"), lambda: new(home / "out", wait_s=0).__enter__()):
            with pytest.raises(OutputError, match="out is being written by another process: wait for it"):
                attempt()
        process.stdin.close()
        assert process.wait() == 0
    assert os.listdir(str(home)) == ["out"]


@pytest.mark.parametrize("kind", ["new_file", "new_folder"])
def test_what_a_dead_process_left_is_removed_as_soon_as_it_is_dead(home, kind):
    with writer(kind, home / "out") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert hidden(home) == [".edgeclf_.out"]
        claim_output(home / "out")
    assert os.listdir(str(home)) == []


@pytest.mark.slow
def test_many_processes_at_once_leave_one_whole_file(home):
    def write_often(letter):
        for _ in range(30):
            with new_file(home / "file", overwrite=True, wait_s=60) as work, open(work, "w") as stream:
                stream.write(letter * 10_000)

    children = []
    for letter in "abcd":
        children.append(os.fork())
        if not children[-1]:
            try:
                write_often(letter)
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    text = (home / "file").read_text()
    assert text == text[0] * 10_000
    assert os.listdir(str(home)) == ["file"]


@pytest.fixture
def no_locks(monkeypatch):
    """A file system without locks, like NFS without its lock daemon."""

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_a_file_system_without_locks_is_written(home, no_locks):
    reset(home)
    write_folder(home)
    write_file(home)
    assert tree(home) == dict({"folder/" + name: NEW[name] for name in NEW}, folder=None, file=b"new")


def test_without_locks_what_is_left_is_named_until_it_is_old(home, no_locks):
    left = home / ".edgeclf_.file"
    left.write_text("")
    with pytest.raises(
        OutputError, match=r"has no locks: if no other process is writing it, remove .*\.edgeclf_\.file\)"
    ):
        claim_output(home / "file")
    os.utime(str(left), (1, 1))
    claim_output(home / "file")
    assert os.listdir(str(home)) == []


def test_without_locks_and_exchange_the_old_output_is_put_back(home, no_locks, monkeypatch):
    reset(home)
    os.rename(str(home / "folder"), str(home / ".edgeclf_old.folder"))
    with pytest.raises(OutputError, match="exists and is not empty"):
        claim_output(home / "folder", marker="marker")
    assert tree(home / "folder") == OLD


def test_an_old_output_whose_name_was_taken_is_kept(home):
    reset(home)
    os.rename(str(home / "folder"), str(home / ".edgeclf_old.folder"))
    write_tree(home / ".edgeclf_.folder", NEW)
    write_tree(home / "folder", {"theirs": b""})
    with pytest.raises(OutputError, match=r"something else has taken its name: .*\.edgeclf_old\.folder\)"):
        claim_output(home / "folder", overwrite=True, marker="marker")
    assert tree(home / ".edgeclf_old.folder") == OLD


@pytest.mark.parametrize(
    "name", [".folder.abcd1234", ".folder.old.abcd1234", ".abcd1234.file", ".edgeclf", ".edgeclf_"]
)
def test_hidden_files_that_edgeclf_did_not_make_are_left(home, name):
    reset(home)
    (home / name).mkdir()
    write_folder(home)
    write_file(home)
    assert hidden(home) == [name]


def test_a_link_or_a_pipe_in_the_place_of_the_work_is_left_alone(home):
    (home / "precious").write_text("mine")
    (home / ".edgeclf_.file").symlink_to(home / "precious")
    os.mkfifo(str(home / ".edgeclf_.folder"))
    for write in (write_file, write_folder):
        with pytest.raises(OutputError, match=r"neither a file nor a folder: .*\.edgeclf_\.f"):
            write(home)
    assert (home / "precious").read_text() == "mine"


def test_a_file_in_a_large_folder_costs_no_listing(home, monkeypatch):
    def refuse(*args):
        pytest.fail("the folder was listed")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        patch.setattr(os, "scandir", refuse)
        write_file(home)
    assert (home / "file").read_bytes() == b"new"


@pytest.mark.parametrize("wrapper", [True, False])
def test_names_are_exchanged_with_and_without_a_wrapper_of_the_c_library(tmp_path, monkeypatch, wrapper):
    libc = ctypes.CDLL(None, use_errno=True)
    if wrapper and not hasattr(libc, "renameat2"):
        pytest.skip("this C library has none")

    class Old:
        """glibc 2.27, as in JetPack 4."""

        syscall = libc.syscall

    if not wrapper:
        monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Old)
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / ("was " + name)).write_text("")
    filesystem.exchange(str(tmp_path / "a"), str(tmp_path / "b"))
    assert os.listdir(str(tmp_path / "a")) == ["was b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        filesystem.rename_new(str(tmp_path / "file"), str(tmp_path / "a"))
    with pytest.raises(FileNotFoundError):
        filesystem.exchange(str(tmp_path / "a"), str(tmp_path / "nothing"))


def test_a_full_disk_is_reported_and_the_old_output_stays(small_disk):
    folder = small_disk("64k")
    reset(folder)
    before = tree(folder)

    def fill(new, *names, **options):
        with new(folder / names[0], overwrite=True, **options) as work, open(
            os.path.join(work, *names[1:]), "wb"
        ) as out:
            out.write(bytes(200_000))

    full = r"{} cannot be written \(No space left on device\): free some space"
    with pytest.raises(OutputError, match=full.format("file")):
        fill(new_file, "file")
    with pytest.raises(OutputError, match=full.format("folder")):
        fill(new_folder, "folder", "a", marker="marker")
    assert tree(folder) == before


def test_a_folder_that_cannot_be_written_is_reported(small_disk):
    folder = small_disk("64k")
    reset(folder)
    subprocess.check_call(["mount", "-o", "remount,ro", str(folder)])
    for write in (write_file, write_folder):
        with pytest.raises(OutputError, match="disk cannot be written: choose another --output"):
            write(folder)
    assert tree(folder / "folder") == OLD


def test_folders_that_were_made_for_an_output_go_with_it(home):
    for new in (new_file, new_folder):
        with pytest.raises(KeyboardInterrupt), new(home / "a" / "b" / "out"):
            raise KeyboardInterrupt
        assert os.listdir(str(home)) == []


def test_an_empty_folder_is_empty_again_when_the_disk_fails(home, monkeypatch):
    (home / "folder").mkdir()
    failing(5, errno.EIO, monkeypatch)
    with pytest.raises(OutputError, match="Input/output"):
        write_folder(home)
    assert tree(home) == {"folder": None}


def test_a_process_that_ends_well_is_not_killed(home):
    assert not kill_at(1000, False, lambda: write_file(home))
