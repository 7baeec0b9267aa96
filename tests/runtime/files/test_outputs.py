import errno
import os
import shutil

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.files import outputs, stage
from edgeclf_runtime.files.outputs import claim_output, new_file, new_folder
from edgeclf_runtime.files.read import sha256_file


@pytest.fixture
def made(tmp_path):
    """A folder that edgeclf created: it contains the marker."""
    path = tmp_path / "made"
    path.mkdir()
    (path / "marker").write_text("old")
    return path


@pytest.fixture
def no_exchange(monkeypatch):
    """A file system that cannot exchange two names, like NFS."""

    def refuse(first, second):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(stage, "exchange", refuse)


def test_a_free_path_and_an_empty_folder_can_be_claimed(tmp_path):
    (tmp_path / "empty").mkdir()
    assert claim_output(tmp_path / "free") == str(tmp_path / "free")
    assert claim_output(tmp_path / "empty", marker="marker") == str(tmp_path / "empty")


def test_the_folders_above_are_made_when_something_is_written(tmp_path):
    claim_output(tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "a").exists()
    with new_file(tmp_path / "a" / "b" / "c"):
        assert (tmp_path / "a" / "b").is_dir()
    with new_folder(tmp_path / "d" / "e"):
        assert (tmp_path / "d").is_dir()


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file is not a folder"):
        claim_output(tmp_path / "file" / "b" / "c")


def test_a_folder_with_something_in_it_asks_for_overwrite(made):
    with pytest.raises(OutputError, match="pass --overwrite"):
        claim_output(made, marker="marker")
    claim_output(made, overwrite=True, marker="marker")


def test_overwrite_spares_a_folder_that_edgeclf_did_not_make(tmp_path, made):
    (made / "marker").rename(made / "photo.jpg")
    for marker in ("marker", None):
        with pytest.raises(OutputError, match="will not replace it"):
            claim_output(made, overwrite=True, marker=marker)


def test_overwrite_spares_a_file_where_a_folder_is_to_be(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"exists: choose another --output$"):
        claim_output(tmp_path / "file", overwrite=True, marker="marker")


def test_overwrite_spares_what_a_link_points_to(tmp_path, made):
    (tmp_path / "link").symlink_to(made)
    with pytest.raises(OutputError, match="exists"):
        claim_output(tmp_path / "link", overwrite=True, marker="marker")


def test_overwrite_spares_anything_that_is_not_a_file(tmp_path):
    os.mkfifo(str(tmp_path / "pipe"))
    with pytest.raises(OutputError, match="pipe is a device, a pipe or a socket and will not be replaced"):
        claim_output(tmp_path / "pipe", overwrite=True)


def test_a_folder_appears_when_its_block_ends(tmp_path):
    with new_folder(tmp_path / "new") as work:
        open(os.path.join(work, "file"), "w").close()
        assert os.listdir(str(tmp_path)) == [os.path.basename(work)]
    assert os.listdir(str(tmp_path)) == ["new"]
    assert os.listdir(str(tmp_path / "new")) == ["file"]


def test_a_new_folder_replaces_an_old_one_whole(tmp_path, made):
    with new_folder(made, overwrite=True, marker="marker") as work:
        open(os.path.join(work, "new"), "w").close()
    assert os.listdir(str(made)) == ["new"]
    assert os.listdir(str(tmp_path)) == ["made"]


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_lost_or_left_when_the_block_stops(tmp_path, made, stop):
    with pytest.raises(stop), new_folder(made, overwrite=True, marker="marker"):
        raise stop
    assert (made / "marker").read_text() == "old"
    assert os.listdir(str(tmp_path)) == ["made"]


@pytest.mark.parametrize("stop", [OSError(13, "Permission denied"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [1, 2])
def test_nothing_is_lost_when_the_replacement_stops_half_way(tmp_path, made, no_exchange, monkeypatch, stop, at):
    calls, rename = [], os.rename

    def stopping(source, target):
        calls.append(target)
        if len(calls) == at:
            raise stop
        rename(source, target)

    monkeypatch.setattr(outputs.os, "rename", stopping)
    with pytest.raises((OutputError, KeyboardInterrupt)), new_folder(made, overwrite=True, marker="marker"):
        pass
    assert (made / "marker").read_text() == "old"
    assert os.listdir(str(tmp_path)) == ["made"]


def test_a_path_that_was_taken_in_the_meantime_is_left_alone(tmp_path):
    def take():
        with new_folder(tmp_path / "new"):
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "theirs").write_text("")

    with pytest.raises(OutputError, match="not empty"):
        take()
    assert os.listdir(str(tmp_path)) == ["new"]
    assert os.listdir(str(tmp_path / "new")) == ["theirs"]


def test_folders_and_files_have_the_permissions_that_others_would_have(tmp_path):
    with new_folder(tmp_path / "folder"), new_file(tmp_path / "file"):
        (tmp_path / "plain").mkdir()
        (tmp_path / "empty").write_text("")
    assert (tmp_path / "folder").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "empty").stat().st_mode


def test_a_file_appears_when_its_block_ends(tmp_path):
    with new_file(tmp_path / "new.onnx") as work:
        assert work.endswith(".onnx")
        assert not (tmp_path / "new.onnx").exists()
        shutil.copyfile(__file__, work)
    assert sha256_file(tmp_path / "new.onnx") == sha256_file(__file__)
    assert os.listdir(str(tmp_path)) == ["new.onnx"]


def test_a_file_is_as_it_was_when_the_block_stops(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "old", overwrite=True):
        raise KeyboardInterrupt
    assert (tmp_path / "old").read_text() == "old"
    assert os.listdir(str(tmp_path)) == ["old"]


def test_a_file_is_replaced_only_if_requested(tmp_path):
    (tmp_path / "old").write_text("old")
    with pytest.raises(OutputError, match="pass --overwrite"), new_file(tmp_path / "old"):
        pass
    with new_file(tmp_path / "old", overwrite=True) as work, open(work, "w") as stream:
        stream.write("new")
    assert (tmp_path / "old").read_text() == "new"


def test_a_folder_is_never_taken_for_a_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="is a folder, a file was expected"), new_file(tmp_path / "folder", True):
        pass


def test_a_name_that_is_too_long_for_its_hidden_names_cannot_be_claimed(tmp_path):
    for parent in (tmp_path, tmp_path / "to be made"):
        assert claim_output(parent / ("x" * 242))
        with pytest.raises(OutputError, match="File name too long: 242 bytes at most were expected"):
            claim_output(parent / ("x" * 243))
    with pytest.raises(OutputError, match="File name too long"):
        claim_output(tmp_path / ("x" * 256) / "run")


def test_a_name_that_the_file_system_refuses_is_reported_before_any_work(tmp_path):
    for new in (new_folder, new_file):
        with pytest.raises(OutputError, match="File name too long"), new(tmp_path / ("x" * 250)):
            pytest.fail("the block was entered")
