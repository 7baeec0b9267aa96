import os
import signal
import subprocess
import sys
import threading

import pytest

import edgeclf_runtime
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.commands.doctor.checks import ask
from edgeclf_runtime.device import child_process
from edgeclf_runtime.device.child_process import find_program, start_child, without_working_folder
from tests.support.boards import write
from tests.support.processes import becomes_true, ends
from tests.support.starting import WAIT_S

# Packages that a child imports, and modules that Python searches at startup.
IMPORTED = (
    "importlib",
    "json",
    "numpy",
    "cv2",
    "ctypes",
    "socket",
    "runpy",
    "typing",
    "edgeclf_runtime",
    "sitecustomize",
)


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A working folder with a package for every name that a child imports; a list of the imported ones."""
    folder, sprung = tmp_path / "downloads", tmp_path / "sprung"
    sprung.mkdir()
    source = f"import os; open(os.path.join({str(sprung)!r}, __name__), 'w').close(); raise SystemExit(9)"
    write(folder, {f"{name}/__init__.py": source for name in IMPORTED})
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", os.environ.get("PYTHONPATH", ""), "../downloads", ""]))
    return sprung


def test_a_camera_imports_nothing_from_the_working_folder(trap):
    with open_camera("test://") as camera:
        camera.read()
    assert os.listdir(str(trap)) == []


def test_a_question_imports_nothing_from_the_working_folder(trap):
    assert ask("import numpy, cv2, importlib.util\nreturn numpy.__name__").found == "numpy"
    assert os.listdir(str(trap)) == []


def test_the_building_process_imports_nothing_from_the_working_folder(trap):
    ours, theirs = os.pipe()
    process = start_child("trt.child", theirs, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    os.close(theirs)
    assert b"JSONDecodeError" in process.communicate(timeout=WAIT_S)[1]
    os.close(ours)
    assert os.listdir(str(trap)) == []


@pytest.mark.slow
def test_a_folder_that_python_m_put_on_the_path_is_not_the_childs(tmp_path):
    write(
        tmp_path,
        {
            "beside.py": "",
            "prog.py": "from edgeclf_runtime.commands.doctor.checks import ask\nprint(ask('import beside'))",
        },
    )
    environment = dict(os.environ, PYTHONPATH=os.path.dirname(os.path.dirname(edgeclf_runtime.__file__)))
    command = [sys.executable, "-m", "prog"]
    out = subprocess.check_output(command, cwd=str(tmp_path), env=environment).decode("utf-8")
    assert "No module named 'beside'" in out
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    out = subprocess.check_output(command, cwd=str(tmp_path), env=environment).decode("utf-8")
    assert "failure=''" in out


def test_a_child_finds_what_its_parent_finds_and_what_pythonpath_names(tmp_path, monkeypatch):
    write(tmp_path, {"own/mine.py": "", "named/yours.py": ""})
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "named"))
    assert ask("import mine, yours\nreturn 1").found == 1


def test_a_child_runs_its_parents_runtime(tmp_path, monkeypatch):
    write(tmp_path, {"edgeclf_runtime/__init__.py": "raise SystemExit('another runtime')"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ask("import edgeclf_runtime\nreturn edgeclf_runtime.__file__").found == edgeclf_runtime.__file__


def test_a_verified_bundles_child_begins_with_the_bundles_verification(tmp_path, monkeypatch):
    home = os.path.dirname(os.path.dirname(edgeclf_runtime.__file__))
    source = f"""
import sys
def import_runtime(manifest):
    sys.path.insert(0, {home!r})
    import edgeclf_runtime
    edgeclf_runtime.verified_by = __name__
    del sys.path[0]
"""
    write(tmp_path, {"__main__.py": source})
    monkeypatch.setattr(edgeclf_runtime, "__verified_home__", str(tmp_path), raising=False)
    assert ask("import edgeclf_runtime\nreturn edgeclf_runtime.verified_by").found == "edgeclf_bundle"
    (tmp_path / "__main__.py").write_text("def import_runtime(manifest): raise SystemExit('damaged')")
    assert "damaged" in ask("return 1").failure


def test_programs_are_searched_only_in_absolute_folders(tmp_path, monkeypatch):
    write(tmp_path, {"bin/gst-inspect-1.0": "#!/bin/sh\n"})
    (tmp_path / "bin" / "gst-inspect-1.0").chmod(0o755)
    monkeypatch.chdir(tmp_path / "bin")
    monkeypatch.setenv("PATH", os.pathsep.join(["", ".", "../bin"]))
    assert find_program("gst-inspect-1.0") is None
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_program("gst-inspect-1.0") == str(tmp_path / "bin" / "gst-inspect-1.0")


def test_a_pythonpath_keeps_its_absolute_entries():
    assert without_working_folder({"PYTHONPATH": ":/a:.:b:/c", "A": "b"}) == {"PYTHONPATH": "/a:/c", "A": "b"}
    assert without_working_folder({"PYTHONPATH": ":."}) == {}


@pytest.mark.slow
def test_a_camera_outlives_the_thread_that_opened_it():
    opened = []
    thread = threading.Thread(target=lambda: opened.append(open_camera("test://")))
    thread.start()
    thread.join()
    with opened[0] as camera:
        assert camera.read().number < camera.read().number
        assert camera.losses == 0


CHILDREN = {
    "camera": "from edgeclf_runtime.capture.open_camera import open_camera\nopen_camera('test://', wait=False).read(60)",
    "question": "from edgeclf_runtime.commands.doctor.checks import ask\nask('import time; time.sleep(600)')",
    "program": "from edgeclf_runtime.commands.doctor.checks import run\nrun(['/bin/sleep', '600'], 600)",
    "build": (
        "import os, subprocess\nfrom edgeclf_runtime.device.child_process import start_child\n"
        "start_child('trt.child', os.pipe()[1], stdin=subprocess.PIPE).wait()"
    ),
}


def settled(pid):
    """Return whether a child has started its work and is waiting."""
    folder = f"/proc/{pid}/"
    with open(folder + "comm") as name, open(folder + "maps") as maps, open(folder + "status") as status:
        begun = name.read() == "sleep\n" or "_ctypes" in maps.read()
        return begun and "State:\tS" in status.read()


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(CHILDREN))
def test_a_child_that_was_stopped_ends_with_its_parent(kind):
    code = f"""
import time
from edgeclf_runtime.device import child_process as processes
start = processes.subprocess.Popen
def tell(*arguments, **options):
    process = start(*arguments, **options)
    print(process.pid, flush=True)
    return process
processes.subprocess.Popen = tell
{CHILDREN[kind]}
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert becomes_true(lambda: settled(child))
        os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait()
    assert ends(child)


def test_a_child_whose_parent_ended_before_ends_by_itself():
    command = child_process.runtime_command("commands.doctor.checks")
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.Popen(command).wait(WAIT_S) == 1


@pytest.mark.slow
def test_a_fork_of_the_parent_starts_children_of_its_own():
    code = (
        "import os, sys\nfrom edgeclf_runtime.commands.doctor.checks import ask\nassert ask('return 1').found == 1\n"
        "child = os.fork()\nif not child:\n    os._exit(ask('return 7').found)\n"
        "print(os.WEXITSTATUS(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], timeout=WAIT_S) == b"7\n"


def test_what_cannot_be_started_is_the_callers_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    with pytest.raises(OSError, match="nowhere"):
        start_child("commands.doctor.checks")
