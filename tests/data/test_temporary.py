"""Temporary files: where they lie is said if their disk is full."""

import os
import re
import tempfile
from pathlib import Path

import pytest

import edgeclf
from edgeclf.data.checks.integrity import CheckReport
from edgeclf.data.temporary import temporary_file, temporary_folder, write_whole
from edgeclf.errors import ModelError, OutputError
from edgeclf.options import TrainOptions
from tests.support.photos import write_photos


@pytest.fixture
def full(small_disk, monkeypatch):
    """A temporary folder with room for little more than tempfile's own attempt."""
    folder = small_disk("64k")
    (folder / "other").write_bytes(bytes(40 << 10))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def message(folder):
    return re.escape(
        f"the temporary folder {folder} cannot be written (No space left on device): free some space there"
    )


def test_a_full_disk_is_named_with_what_to_do(full):
    with pytest.raises(OutputError, match=message(full)), temporary_folder() as folder:
        (folder / "large").write_bytes(bytes(1 << 20))
    assert os.listdir(full) == ["other"]


def test_whatever_a_library_makes_of_it(full):
    def library():
        with temporary_folder() as folder:
            try:
                (folder / "large").write_bytes(bytes(1 << 20))
            except OSError:
                raise RuntimeError("system error 28") from None

    with pytest.raises(OutputError, match=r"cannot be written \(its disk is full\): free"):
        library()
    with pytest.raises(ModelError, match="of something else"), temporary_folder():
        raise ModelError("of something else")


def test_a_file_without_a_name_is_written_whole_or_not_at_all(full):
    with temporary_file() as file:
        write_whole(file, bytes(8 << 10))
        with pytest.raises(OutputError, match=message(full)):
            write_whole(file, bytes(1 << 20))


def test_no_temporary_folder_at_all_is_an_error_with_a_remedy(monkeypatch):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)
    with pytest.raises(OutputError, match=r"cannot be written \(No usable temporary directory found in .* TMPDIR"):
        temporary_file()


def test_checking_and_training_say_so_before_anything_is_trained(full, digits, tmp_path):
    write_photos(tmp_path / "photos", [f"{label}/{number}.png" for label in "ab" for number in range(20)])
    with pytest.raises(OutputError, match=message(full)):
        edgeclf.check(tmp_path / "photos")
    checked = CheckReport("", 0, {}, ())
    options = TrainOptions(backbone="mobilenetv3_small_050", weights="none", image_size=32, epochs=1, finetune="full")
    with pytest.raises(OutputError, match=r"the temporary folder .* cannot be written"):
        edgeclf.train(digits, tmp_path / "run", options, checked=checked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "photos"]


def test_every_temporary_folder_is_made_here():
    root = Path(edgeclf.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"tempfile\.(TemporaryDirectory|mk)", path.read_text(encoding="utf-8"))
    }
    assert found == {"data/temporary.py"}
