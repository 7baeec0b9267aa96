"""Atomic updates of a folder that holds other files too."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from edgeclf.data import folder_update
from edgeclf.data.folder_update import settle, updated_folder
from edgeclf.errors import OutputError
from edgeclf_runtime.files import stage
from tests.support.kills import kill_everywhere, tree

OLD = {"a": b"old", "b": b"old", "mine.txt": b"mine", "notes": None, "notes/more": b"mine", "latest": "a"}
NEW = {**OLD, "a": b"new", "c": b"new"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "home" / "run"
    reset(path)
    return path


@pytest.fixture(params=["exchanged", "moved"])
def way(request, monkeypatch):
    if request.param == "moved":
        monkeypatch.setattr(folder_update, "_can_be_exchanged", lambda folder: False)
    return request.param


def reset(folder):
    shutil.rmtree(folder.parent, ignore_errors=True)
    (folder / "notes").mkdir(parents=True)
    for name, content in OLD.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
    (folder / "latest").symlink_to("a")


def change(folder, more=lambda work: None):
    with updated_folder(folder) as work:
        for name in "ac":
            (work / name).write_bytes(b"new")
        more(work)


def hidden(folder):
    return [path.name for path in folder.parent.rglob(".*")]


def test_new_files_take_their_places_and_what_else_is_there_stays(folder, way):
    folder.chmod(0o750)
    change(folder)
    assert (tree(folder), hidden(folder)) == (NEW, [])
    assert folder.stat().st_mode & 0o777 == 0o750
    assert (folder / "b").stat().st_nlink == 1


def test_nothing_changes_when_the_block_stops(folder, way):
    def stop(work):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change(folder, stop)
    assert (tree(folder), hidden(folder)) == (OLD, [])


@pytest.mark.slow
def test_all_files_are_old_or_all_are_new_wherever_the_process_is_killed(folder, way):
    found = []
    for moment in kill_everywhere(lambda: change(folder)):
        if way == "moved":
            settle(folder)
        found.append(tree(folder))
        assert found[-1] in (OLD, NEW), moment
        settle(folder)
        assert (tree(folder), hidden(folder)) == (found[-1], []), moment
        reset(folder)
    assert OLD in found
    assert NEW in found


def test_a_disk_that_fails_leaves_the_old_files(folder, way, monkeypatch):
    fsync = os.fsync
    for number in range(1, 5):
        left = iter(range(number - 1))

        def fail(descriptor, left=left):
            if next(left, None) is None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="Input/output error"):
            change(folder)
        assert (tree(folder), hidden(folder)) == (OLD, [])


def test_files_are_copied_where_links_are_refused(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    change(folder)
    assert tree(folder) == NEW


def test_a_folder_that_is_a_link_stays_a_link(folder, tmp_path, way):
    (tmp_path / "link").symlink_to(folder)
    change(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tree(folder) == NEW


def test_a_program_that_works_in_the_folder_stays_in_it(folder):
    with subprocess.Popen(["cat"], cwd=folder / "notes", stdin=subprocess.PIPE) as shell:
        before = folder.stat().st_ino
        change(folder)
        assert os.readlink(f"/proc/{shell.pid}/cwd") == str(folder / "notes")
        shell.stdin.close()
    assert (folder.stat().st_ino, tree(folder), hidden(folder)) == (before, NEW, [])


def test_a_command_may_be_started_in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    change(".")
    assert sorted(os.listdir(".")) == sorted(name for name in NEW if "/" not in name)


def test_a_folder_that_is_a_disk_of_its_own_is_changed(small_disk):
    folder = small_disk("1m")
    (folder / "a").write_bytes(b"old")
    change(folder)
    assert tree(folder) == {"a": b"new", "c": b"new"}


def test_a_folder_that_is_mounted_from_the_same_disk_is_changed(folder, tmp_path):
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if os.geteuid() != 0 or subprocess.call(["mount", "--bind", str(folder), str(mounted)]) != 0:
        pytest.skip("mounting needs root")
    try:
        change(mounted)
        assert (tree(folder), hidden(folder), hidden(mounted)) == (NEW, [], [])
    finally:
        subprocess.check_call(["umount", str(mounted)])


def test_a_full_disk_is_told_and_the_old_files_stay(small_disk):
    folder = small_disk("64k") / "home" / "run"
    reset(folder)
    with pytest.raises(OutputError, match=r"run cannot be written \(No space left on device\): free some space"):
        change(folder, lambda work: (work / "a").write_bytes(bytes(200_000)))
    assert (tree(folder), hidden(folder)) == (OLD, [])


def test_what_somebody_else_puts_there_meanwhile_is_kept(folder, monkeypatch):
    swap = folder_update.swap_folders

    def swap_later(work, path):
        (folder / "theirs").write_text("theirs")
        (folder / "notes" / "later").write_text("later")
        (folder / "mine.txt.new").write_text("edited")
        os.replace(folder / "mine.txt.new", folder / "mine.txt")
        return swap(work, path)

    monkeypatch.setattr(folder_update, "swap_folders", swap_later)
    change(folder)
    expected = {**NEW, "theirs": b"theirs", "notes/later": b"later", "mine.txt": b"edited"}
    assert (tree(folder), hidden(folder)) == (expected, [])


def test_two_at_once_do_not_undo_each_other(folder, way):
    code = (
        "import sys; from edgeclf.data.folder_update import updated_folder\n"
        "for number in range(10):\n"
        "    with updated_folder(sys.argv[1]) as work: (work / (sys.argv[2] + str(number))).write_text('')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [subprocess.Popen([sys.executable, "-c", code, str(folder), name], env=environment) for name in "xy"]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert set(OLD) | {f"{name}{number}" for name in "xy" for number in range(10)} == set(tree(folder))


def test_a_second_writer_gets_an_error(folder, way, monkeypatch):
    monkeypatch.setattr(stage, "WAIT_S", 0)
    with updated_folder(folder) as work:
        with pytest.raises(OutputError, match="run is being written by another process"), updated_folder(folder):
            pass
        (work / "a").write_bytes(b"new")
    assert (folder / "a").read_bytes() == b"new"


def test_a_folder_that_is_not_there_is_made(tmp_path):
    change(tmp_path / "set")
    assert tree(tmp_path / "set") == {"a": b"new", "c": b"new"}
