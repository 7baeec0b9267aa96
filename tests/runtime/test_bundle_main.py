import json
import os
import shutil

import pytest

from .sealing import flip_byte, replace_file
from .starting import output_of, start


def test_a_bundle_runs_by_itself_from_anywhere(copied, photos, tmp_path):
    home = tmp_path / "B\u00fcndel 1"
    home.mkdir()
    shutil.move(str(copied), str(home / "copy.edge"))
    (tmp_path / "elsewhere").mkdir()
    images = sorted(photos.iterdir())
    code, out, err = output_of(
        start(
            home / "copy.edge",
            "classify",
            "--json",
            *images,
            cwd=str(tmp_path / "elsewhere"),
            environment={"LC_ALL": "C"},
        )
    )
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [os.fsencode(line["image"]) for line in lines] == [os.fsencode(str(path)) for path in images]
    assert all(line["label"] and line["top"] for line in lines)
    assert not list(home.rglob("__pycache__"))


def test_damaged_code_is_told_before_it_is_run(copied):
    for path in sorted((copied / "edgeclf_runtime").rglob("*.py")):
        if path.stat().st_size:
            flip_byte(path, path.stat().st_size // 3)
            code, out, err = output_of(start(copied, "info"))
            assert (code, out) == (1, "")
            assert f"{path.name} was changed or is missing; copy the bundle again" in err
            assert err.count("\n") == 1
            flip_byte(path, path.stat().st_size // 3)


@pytest.mark.parametrize("name", ["edgeclf_runtime/bundle.py", "manifest.json"])
def test_missing_code_is_told(copied, name):
    (copied / name).unlink()
    code, _, err = output_of(start(copied, "info"))
    assert code == 1
    assert f"{name} was changed or is missing" in err
    assert "Traceback" not in err


def test_a_bundle_runs_its_own_runtime_whatever_is_installed(copied):
    replace_file(copied, "edgeclf_runtime/__init__.py", b'"""Another version."""\n__version__ = "9.9.9"\n')
    assert output_of(start(copied, "--version")) == (0, "9.9.9\n", "")


def test_a_library_that_was_dropped_into_the_bundle_is_not_imported(copied):
    (copied / "argparse.py").write_text("print('imported')")
    code, out, err = output_of(start(copied, "selftest"))
    assert (code, out) == (1, "")
    assert "argparse.py does not belong to it" in err
