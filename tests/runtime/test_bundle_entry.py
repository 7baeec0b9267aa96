import importlib.util
import json
import os
import py_compile
import re
import shutil
import struct
import subprocess
import sys

import pytest

from tests.support.sealing import flip_byte, replace_file
from tests.support.starting import output_of, start


@pytest.mark.slow
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
    # The empty files with that name keep Python from creating such folders.
    assert not [path for path in home.rglob("__pycache__") if path.stat().st_size or path.is_dir()]


@pytest.mark.slow
def test_damaged_code_is_reported_before_it_is_run(copied):
    runtime = copied / "edgeclf_runtime"
    one_of_each_folder = {path.parent: path for path in sorted(runtime.rglob("*.py")) if path.stat().st_size}
    for path in [
        *one_of_each_folder.values(),
        runtime / "__main__.py",
        runtime / "bundle/open_bundle.py",
        runtime / "errors.py",
    ]:
        flip_byte(path, path.stat().st_size // 3)
        code, out, err = output_of(start(copied, "info"))
        assert (code, out) == (1, "")
        assert f"{path.name} was changed or is missing; copy the bundle again" in err
        assert err.count("\n") == 1
        flip_byte(path, path.stat().st_size // 3)


@pytest.mark.parametrize("name", ["edgeclf_runtime/bundle/open_bundle.py", "manifest.json"])
def test_missing_code_is_reported(copied, name):
    (copied / name).unlink()
    code, _, err = output_of(start(copied, "info"))
    assert code == 1
    assert f"{name} was changed or is missing" in err
    assert "Traceback" not in err


def test_a_bundle_runs_its_own_runtime_whatever_is_installed(copied):
    code = (copied / "edgeclf_runtime" / "__init__.py").read_bytes()
    replace_file(
        copied, "edgeclf_runtime/__init__.py", re.sub(b"(?m)^__version__ = .*$", b'__version__ = "9.9.9"', code)
    )
    assert output_of(start(copied, "--version")) == (0, "9.9.9\n", "")


@pytest.mark.slow
def test_a_library_that_was_dropped_into_the_bundle_is_not_imported(copied):
    (copied / "argparse.py").write_text("print('imported')")
    code, out, err = output_of(start(copied, "selftest"))
    assert (code, out) == (1, "")
    assert "argparse.py does not belong to it" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["json", "hashlib", "shutil", "argparse", "logging", "numpy", "stat"])
@pytest.mark.parametrize("kind", ["folder", "linked folder", "file"])
def test_nothing_that_the_runtime_imports_comes_from_the_bundles_folder(copied, tmp_path, name, kind):
    marker = tmp_path / "marker"
    code = f"open({str(marker)!r}, 'w')"
    if kind == "file":
        (copied / f"{name}.py").write_text(code)
    else:
        folder = copied / name if kind == "folder" else tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text(code)
        if kind == "linked folder":
            (copied / name).symlink_to(folder)
    code, out, err = output_of(start(copied, "info"))
    assert (code, out) == (1, "")
    assert f"{name}" in err
    assert "does not belong to it" in err
    assert not marker.exists()


def test_planted_byte_code_is_never_run(copied, tmp_path):
    marker = tmp_path / "marker"
    source = copied / "edgeclf_runtime" / "errors.py"
    planted = tmp_path / "planted.py"
    planted.write_text(f"open({str(marker)!r}, 'w')\n" + source.read_text(encoding="utf-8"))
    os.remove(str(copied / "edgeclf_runtime" / "__pycache__"))
    cached = importlib.util.cache_from_source(str(source))
    py_compile.compile(str(planted), cached)
    # The byte code's header says that it is the source's.
    about = source.stat()
    offset = 8 if sys.version_info >= (3, 7) else 4
    with open(cached, "r+b") as stream:
        stream.seek(offset)
        stream.write(struct.pack("<II", int(about.st_mtime), about.st_size))
    code, out, err = output_of(start(copied, "info"))
    assert (code, out) == (1, "")
    assert "edgeclf_runtime/__pycache__" in err
    assert not marker.exists()


def test_python_leaves_no_byte_code_in_a_bundle_that_is_imported_as_a_package(copied):
    code = f"from edgeclf_runtime.bundle.open_bundle import open_bundle; open_bundle({str(copied)!r})"
    subprocess.check_call([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=str(copied)))


def test_verifying_reads_each_file_once_into_as_much_memory_as_it_has_bytes(copied):
    program = (
        "import os, runpy, sys; start = runpy.run_path(sys.argv[1] + '/__main__.py', run_name='start'); asked = []\n"
        "original = os.read; os.read = lambda file, size: (asked.append(size), original(file, size))[1]\n"
        "start['import_runtime'](); print(sorted(asked))"
    )
    out = subprocess.check_output([sys.executable, "-I", "-c", program, str(copied)], universal_newlines=True)
    code = [*copied.rglob("*.py"), copied / "manifest.json"]
    # The package's own file is read once more, when it is imported.
    again = (copied / "edgeclf_runtime" / "__init__.py").stat().st_size
    assert json.loads(out) == sorted([path.stat().st_size for path in code] + [again])


def test_code_that_is_changed_while_the_program_runs_is_not_imported(copied):
    program = (
        "import runpy, sys; sys.argv = [{0!r}, '--version']; sys.path.insert(0, {0!r})\n"
        "try: runpy.run_path({0!r} + '/__main__.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "open({0!r} + '/edgeclf_runtime/commands/info.py', 'a').write('print(1)')\n"
        "try: import edgeclf_runtime.commands.info\n"
        "except ImportError as error: print(error)"
    ).format(str(copied))
    out = subprocess.check_output([sys.executable, "-c", program], universal_newlines=True)
    assert "edgeclf_runtime/commands/info.py was changed or is missing" in out


@pytest.mark.parametrize("name", ["manifest.json", "edgeclf_runtime/errors.py"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_code_that_is_not_a_file_is_reported_without_waiting(copied, name, make):
    (copied / name).unlink()
    make(str(copied / name))
    code, out, err = output_of(start(copied, "info"))
    assert (code, out) == (1, "")
    assert f"{name} was changed or is missing" in err


@pytest.mark.slow
def test_a_child_process_runs_the_code_that_its_parent_verified(copied):
    program = (
        f"import runpy, sys; start = runpy.run_path({str(copied)!r} + '/__main__.py', run_name='start')\n"
        "start['import_runtime']()\n"
        "from edgeclf_runtime.commands.doctor.checks import ask\n"
        "print(ask('from edgeclf_runtime.classify import golden; return type(golden.__loader__).__name__').found)\n"
        f"open({str(copied)!r} + '/edgeclf_runtime/classify/golden.py', 'a').write('x = 1')\n"
        "print(ask('from edgeclf_runtime.classify import golden; return 1').failure)\n"
        f"open({str(copied)!r} + '/__main__.py', 'a').write('x = 1')\n"
        "print(ask('return 1').failure)\n"
    )
    out = subprocess.check_output([sys.executable, "-c", program], universal_newlines=True)
    assert out.splitlines()[0] == "Importer"
    assert "edgeclf_runtime/classify/golden.py was changed or is missing" in out
    assert "__main__.py was changed while the program runs" in out
