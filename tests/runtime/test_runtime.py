"""The runtime as a whole: small, bare and readable by the oldest Python that it is for."""

import ast
import importlib
import importlib.util
import os
import pathlib
import pkgutil

import pytest

import edgeclf_runtime
from edgeclf_runtime import errors

FOLDER = pathlib.Path(edgeclf_runtime.__file__).resolve().parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(FOLDER)], "edgeclf_runtime."))
SOURCES = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")}
ALLOWED = {"numpy", "cv2", "onnxruntime", "onnxruntime_ep_nv_tensorrt_rtx", "openvino", "tensorrt", "pycuda", "paho"}


def imported():
    """The names of all packages that any line of the runtime imports."""
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0]


def is_in_python(name):
    origin = getattr(importlib.util.find_spec(name), "origin", None)
    if origin in (None, "built-in", "frozen"):
        return True
    return origin.startswith(os.path.dirname(os.__file__)) and "site-packages" not in origin


def test_it_imports_nothing_but_numpy_opencv_the_backend_and_the_mqtt_client():
    outside = {name for name in imported() if name != "edgeclf_runtime" and not is_in_python(name)}
    assert {"numpy", "cv2"} < outside <= ALLOWED


def test_it_weighs_less_than_a_megabyte():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert 10000 < sum(sizes) < 1000000


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name):
    assert len(importlib.import_module(name).__doc__) > 20


def test_all_its_errors_have_one_root_and_an_exit_code():
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(error, errors.EdgeclfError) for error in found)
    assert {error.exit_code for error in found} == {1, 3}
    assert all(error.__name__ in errors.__doc__ for error in found)


def test_the_bundle_holds_this_runtime(bundle):
    inside = bundle / "edgeclf_runtime"
    assert {path.relative_to(inside).as_posix() for path in inside.rglob("*.py")} == set(SOURCES) - {"bundle_entry.py"}
