"""Engines that several processes want at the same time."""

import os
import subprocess
import sys

import pytest

from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.trt import engine_cache
from tests.support.engine_requests import SPEC

BUILD = """
import sys
from edgeclf_runtime.trt import engine_cache
from edgeclf_runtime.trt.engine_spec import EngineSpec
spec = EngineSpec.from_json(sys.argv[2])
with engine_cache.new_engine(sys.argv[1], spec) as plan:
    print("builds", flush=True)
    sys.stdin.readline()
    open(plan, "wb").write(b"engine")
    engine_cache.keep_facts(sys.argv[1], spec, b"engine", {})
"""


@pytest.fixture
def builder(tmp_path):
    """Another process that builds the engine until a line is written to it."""
    command = [sys.executable, "-c", BUILD, str(tmp_path), SPEC.to_json()]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"builds\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_an_engine_that_another_process_builds_is_waited_for(tmp_path, builder):
    assert engine_cache.is_being_built(str(tmp_path), SPEC)
    assert engine_cache.load(str(tmp_path), SPEC) is None
    builder.stdin.write(b"\n")
    builder.stdin.flush()
    with engine_cache.new_engine(str(tmp_path), SPEC) as plan:
        assert engine_cache.load(str(tmp_path), SPEC).plan == b"engine"
        with open(plan, "wb") as stream:
            stream.write(b"engine")
    assert not engine_cache.is_being_built(str(tmp_path), SPEC)
    assert builder.wait() == 0


def test_an_engine_whose_builder_was_killed_is_built_here(tmp_path, builder):
    builder.kill()
    builder.wait()
    assert not engine_cache.is_being_built(str(tmp_path), SPEC)
    with engine_cache.new_engine(str(tmp_path), SPEC):
        pass
    assert [name for name in os.listdir(str(tmp_path)) if name.startswith(".")] == []


def test_a_machine_without_a_folder_for_engines_says_what_to_name(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    message = r"not even a temporary one \(No such file.*\): set XDG_CACHE_HOME or TMPDIR to one"
    with pytest.raises(BackendError, match=message), engine_cache.writable(["/proc/nowhere"]):
        pass
