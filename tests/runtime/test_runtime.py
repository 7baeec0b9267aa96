"""The runtime as a whole: small, self-contained and readable by the oldest supported Python."""

import ast
import importlib
import importlib.util
import os
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import edgeclf_runtime
from edgeclf_runtime import errors

FOLDER = pathlib.Path(edgeclf_runtime.__file__).resolve().parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(FOLDER)], "edgeclf_runtime."))
SOURCES = {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.py")}
ALLOWED = {"numpy", "cv2", "onnxruntime", "onnxruntime_ep_nv_tensorrt_rtx", "openvino", "tensorrt", "pycuda", "paho"}

PUBLIC = [
    "BackendError",
    "BundleError",
    "Camera",
    "CameraError",
    "CameraLost",
    "Classifier",
    "DependencyError",
    "EdgeclfError",
    "EndOfStream",
    "Frame",
    "GateError",
    "ImageError",
    "IncompleteFilm",
    "OptionError",
    "OutputError",
    "Result",
    "SourceError",
    "Unavailable",
    "__version__",
    "open_bundle",
    "open_camera",
]


def imported():
    """The names of all packages that the runtime imports anywhere."""
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


def test_it_imports_only_numpy_opencv_the_backend_and_the_mqtt_client():
    outside = {name for name in imported() if name != "edgeclf_runtime" and not is_in_python(name)}
    assert {"numpy", "cv2"} < outside <= ALLOWED


def test_it_weighs_less_than_one_and_a_half_megabytes():
    # OpenCV alone has sixty.
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert 10000 < sum(sizes) < 3 << 19


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


def run_python(code, *options):
    """Run code in a fresh Python, in which nothing is imported yet; return what it prints."""
    return subprocess.check_output([sys.executable, *options, "-c", code]).decode("utf-8")


def test_the_public_names_are_exactly_these():
    assert edgeclf_runtime.__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(edgeclf_runtime))
    assert {name for name in vars(errors) if isinstance(vars(errors)[name], type)} < set(PUBLIC)


def test_every_other_error_can_be_caught_as_a_public_one_that_says_what_failed():
    public = {vars(errors)[name] for name in PUBLIC if name in vars(errors)} - {errors.EdgeclfError}
    for name in MODULES:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    pending = [errors.EdgeclfError]
    while pending:
        for error in pending.pop().__subclasses__():
            if error.__module__.startswith("edgeclf_runtime."):
                assert public & set(error.__mro__), error
            pending.append(error)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_each_public_name_is_imported_on_first_use(name):
    code = "import edgeclf_runtime as e, sys; before = {0!r} in vars(e); found = getattr(e, {0!r}); "
    code += "print(before, found.__name__, {0!r} in vars(e))"
    assert run_python(code.format(name)) == f"False {name} True\n"


def test_importing_the_package_imports_none_of_its_modules_and_nothing_heavy():
    code = "import sys; before = set(sys.modules); import edgeclf_runtime; print(sorted(set(sys.modules) - before))"
    loaded = set(ast.literal_eval(run_python(code)))
    assert not {name for name in loaded if name.startswith("edgeclf_runtime.")}
    assert not loaded & {"asyncio", "cv2", "json", "logging", "multiprocessing", "numpy", "ssl", "subprocess"}


def test_a_submodule_is_imported_from_the_package_as_usual():
    code = "from edgeclf_runtime import fake, images, results; from edgeclf_runtime.images import read; "
    code += "print(fake.__name__, images.__name__, results.Result.__name__, read.__name__)"
    assert run_python(code) == "edgeclf_runtime.fake edgeclf_runtime.images Result edgeclf_runtime.images.read\n"


def test_a_name_that_does_not_exist_is_refused_as_any_module_refuses_it():
    with pytest.raises(AttributeError, match="module 'edgeclf_runtime' has no attribute 'nonsense'"):
        _ = edgeclf_runtime.nonsense
    with pytest.raises(ImportError, match="cannot import name"):
        exec("from edgeclf_runtime import nonsense")


def test_the_verifying_importer_serves_the_public_names_too(bundle):
    code = "import runpy; runpy.run_path({!r})['import_runtime'](); import edgeclf_runtime, sys; "
    code += "print('numpy' in sys.modules); from edgeclf_runtime import Classifier, EdgeclfError, results; "
    code += "print(Classifier.__name__, EdgeclfError.__module__, type(edgeclf_runtime.__loader__).__name__)"
    code = code.format(os.path.join(str(bundle), "__main__.py"))
    assert run_python(code, "-I") == "False\nClassifier edgeclf_runtime.errors Importer\n"
