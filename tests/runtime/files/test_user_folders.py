"""A user's folders with a home, without one, and without any writable folder."""

import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile

import pytest

from edgeclf_runtime.errors import OutputError
from edgeclf_runtime.files import user_folders
from edgeclf_runtime.files.user_folders import cache_folder, home_folder, state_folder, temporary_folder
from edgeclf_runtime.sinks.mqtt.sink import default_spool, parse_address
from edgeclf_runtime.trt import engine_cache
from tests.support.starting import output_of

CODE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from edgeclf_runtime.files.user_folders import cache_folder, state_folder
from edgeclf_runtime.trt import engine_cache
os.setgid(12345); os.setuid(12345)
print(cache_folder()); print(state_folder()); print(engine_cache.folders())
"""


@pytest.fixture(autouse=True)
def _bare(monkeypatch, tmp_path):
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "TMP", "TEMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(user_folders, "_warned", set())
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)


def no_home(monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.delenv("HOME", raising=False)


def test_the_variables_come_first_and_a_relative_path_in_them_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/pets")
    assert cache_folder() == "/var/cache/pets/edgeclf"
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_folder() == str(tmp_path / ".cache" / "edgeclf")
    assert state_folder() == str(tmp_path / ".local" / "state" / "edgeclf")


@pytest.mark.parametrize("home", [None, "", "~", "relative", "/dev/null"])
def test_a_user_without_a_home_keeps_things_in_a_folder_that_nobody_else_can_enter(monkeypatch, tmp_path, caplog, home):
    no_home(monkeypatch)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(str(tmp_path))
    own = tmp_path / "tmp" / f"edgeclf-{os.getuid()}"
    assert cache_folder() == str(own / "cache")
    assert state_folder() == str(own / "state")
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert len(caplog.messages) == 1
    assert "set HOME or XDG_CACHE_HOME" in caplog.text
    assert os.listdir(str(tmp_path)) == ["tmp"]


def test_a_read_only_home_is_used_for_folders_that_exist(monkeypatch, tmp_path):
    (tmp_path / ".cache" / "edgeclf").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root can write everywhere
    assert cache_folder() == str(tmp_path / ".cache" / "edgeclf")
    assert state_folder().startswith(str(tmp_path / "tmp"))


@pytest.mark.parametrize("kind", ["link", "file", "open", "foreign"])
def test_a_folder_that_someone_else_created_is_not_used(monkeypatch, tmp_path, caplog, kind):
    no_home(monkeypatch)
    own = tmp_path / "tmp" / f"edgeclf-{os.getuid()}"
    (tmp_path / "theirs").mkdir(mode=0o700)
    if kind == "link":
        own.symlink_to(tmp_path / "theirs")
    elif kind == "file":
        own.write_text("")
    else:
        own.mkdir(mode=0o700)
        if kind == "open":
            own.chmod(0o750)
        else:
            real = os.getuid()
            monkeypatch.setattr(os, "getuid", lambda: real + 1)
            own.rename(tmp_path / "tmp" / f"edgeclf-{real + 1}")
    assert cache_folder() is None
    assert "nothing is kept (" in caplog.text
    assert engine_cache.folders() == []
    with pytest.raises(OutputError, match="XDG_STATE_HOME"):
        default_spool(parse_address("mqtt://host/t"))


def test_without_any_folder_for_temporary_files_nothing_is_kept(monkeypatch, tmp_path, caplog):
    no_home(monkeypatch)
    monkeypatch.chdir(str(tmp_path))
    # Python's last resort: the working folder.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert temporary_folder() is None
    assert (cache_folder(), home_folder()) == (None, None)
    assert "no temporary folder is writable" in caplog.text
    assert sorted(os.listdir(str(tmp_path))) == ["tmp"]


@pytest.fixture
def everybodys():
    """A folder that every user can write."""
    folder = tempfile.mkdtemp(prefix="edgeclf-test-", dir="/tmp")
    os.chmod(folder, 0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="another user id needs root")
@pytest.mark.parametrize("home", [{}, {"HOME": "/nonexistent"}, {"HOME": "/"}])
def test_an_unknown_user_id_makes_no_folder_named_after_a_tilde(everybodys, home):
    process = subprocess.Popen(
        [sys.executable, "-B", "-c", CODE, os.path.dirname(os.path.dirname(os.path.dirname(user_folders.__file__)))],
        cwd=everybodys,
        env=dict(home, PATH=os.environ["PATH"], TMPDIR=everybodys),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    code, out, err = output_of(process)
    own = os.path.join(everybodys, "edgeclf-12345")
    assert (code, out.splitlines()[:2]) == (0, [os.path.join(own, name) for name in ("cache", "state")]), err
    assert err.count("has no writable home") == 1
    assert os.listdir(everybodys) == ["edgeclf-12345"]


def test_the_warning_names_what_was_found(monkeypatch, caplog):
    no_home(monkeypatch)
    with caplog.at_level(logging.WARNING):
        cache_folder()
    assert f"user {os.getuid()} has no writable home (HOME is not set)" in caplog.text
