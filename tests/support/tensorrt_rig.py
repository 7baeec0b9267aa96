"""NVIDIA's real Python bindings of TensorRT on a machine without a GPU.

The bindings are installed without their libraries.  What they link against is made here by gcc:
for 11.4.0 a library that hands each entry point on to TensorRT-RTX, whose compiler needs no GPU,
so that parsing and building are real; for 8.6.1 and 10.16.1 empty functions, so that the classes
can be looked at.  Everything is kept in the user's cache folder, or in EDGECLF_TEST_HOME.

An engine that is built this way is TensorRT-RTX's; no engine can be loaded, for want of a driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

# TensorRT-RTX 1.7.1 under the number that its entry points want to hear, and the package that has it inside.
RTX_NUMBER = 10701
RTX_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"
RTX_FOLDER = "onnxruntime_ep_nv_tensorrt_rtx"
RTX_LIBRARY, RTX_PARSER = "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"


class Bindings(NamedTuple):
    package: str
    libraries: tuple[str, ...]
    extra: tuple[str, ...] = ()


_MODERN = ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")
BUILDS = "11.4.0.106"
VERSIONS = {
    "8.6.1": Bindings("tensorrt-bindings", (*_MODERN, "libnvparsers")),
    "10.16.1.11": Bindings("tensorrt-cu13-bindings", _MODERN),
    BUILDS: Bindings("tensorrt-cu13-bindings", _MODERN, (RTX_PACKAGE,)),
}
# Entry points: which library answers, and what is handed on: the return type, parameters, arguments.
POINTERS = {
    "createInferBuilder_INTERNAL": (RTX_LIBRARY, 1),
    "createInferRuntime_INTERNAL": (RTX_LIBRARY, 1),
    "createInferRefitter_INTERNAL": (RTX_LIBRARY, 2),
    "createNvOnnxParser_INTERNAL": (RTX_PARSER, 2),
    "createNvOnnxParserRefitter_INTERNAL": (RTX_PARSER, 2),
}
PLAIN = {
    "getBuilderPluginRegistry": "int kind",
    "getPluginRegistry": "void",
    "getLogger": "void",
}
NUMBERS = ("getInferLibVersion", "getNvOnnxParserVersion")
# The UFF and Caffe parsers, which only the bindings of TensorRT 8 ask for.
LEGACY = (
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
FIND = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
static void *find(const char *library, const char *name)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    void *address = handle ? dlsym(handle, name) : NULL;
    if (!address) { fprintf(stderr, "%s\\n", dlerror()); abort(); }
    return address;
}
"""
LOADER = """
import ctypes, os
for _name in {names!r}:
    ctypes.CDLL(os.path.join(os.path.dirname(os.path.abspath(__file__)), _name), ctypes.RTLD_GLOBAL)
"""


def rig(version: str) -> str:
    """Return the folder that makes ``import tensorrt`` give that version; skips where it cannot be made.

    Other processes of pytest wait while one makes it.
    """
    from filelock import FileLock

    home = Path(os.environ.get("EDGECLF_TEST_HOME") or _cache() / "edgeclf-tests")
    tag = f"{sys.version_info[0]}{sys.version_info[1]}"
    folder = home / f"tensorrt-{version}-py{tag}"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").is_file():
            if not shutil.which("gcc"):
                pytest.skip("TensorRT's bindings are tried out with libraries that gcc makes, and there is no gcc")
            shutil.rmtree(folder, ignore_errors=True)
            _install(version, folder)
            _make_libraries(version, folder)
            (folder / "complete").touch()
    return str(folder)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _install(version: str, folder: Path) -> None:
    bindings = VERSIONS[version]
    wanted = [f"{bindings.package}=={version}", *bindings.extra]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", folder, *wanted]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot install {', '.join(wanted)}: {done.stderr.strip()[-300:]}")


def _make_libraries(version: str, folder: Path) -> None:
    libraries = folder / "tensorrt_libs"
    libraries.mkdir()
    names = []
    if version == BUILDS:
        for alias in (RTX_LIBRARY, RTX_PARSER):
            (real,) = (folder / RTX_FOLDER).glob(alias[: -len(".1")] + ".*.*.*")
            # By its own name and without the number: it looks for itself under both.
            for link in (alias, alias[: -len(".1")]):
                (libraries / link).symlink_to(os.path.relpath(real, libraries))
            names.append(alias)
    source = libraries / "entry_points.c"
    source.write_text(_forwarding() if version == BUILDS else _empty())
    for name in VERSIONS[version].libraries:
        soname = f"{name}.so.{version.split('.')[0]}"
        command = ["gcc", "-shared", "-fPIC", "-o", libraries / soname, f"-Wl,-soname,{soname}", source, "-ldl"]
        subprocess.run([str(part) for part in command], check=True)
        names.append(soname)
    (libraries / "__init__.py").write_text(LOADER.format(names=names))
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "__init__.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )


def _forwarding() -> str:
    """C that hands each entry point on, with TensorRT-RTX's version in place of TensorRT's."""
    lines = [FIND]
    for name, (library, count) in POINTERS.items():
        parameters = ", ".join(f"void *p{i}" for i in range(count))
        arguments = ", ".join(f"p{i}" for i in range(count))
        kinds = ", ".join(["void *"] * count)
        lines.append(
            f"void *{name}({parameters}, int version)\n"
            f'{{ return ((void *(*)({kinds}, int))find("{library}", "{name}"))({arguments}, {RTX_NUMBER}); }}'
        )
    for name, parameter in PLAIN.items():
        kind, argument = ("int", "kind") if parameter != "void" else ("void", "")
        lines.append(
            f'void *{name}({parameter})\n{{ return ((void *(*)({kind}))find("{RTX_LIBRARY}", "{name}"))({argument}); }}'
        )
    lines += [f"int {name}(void) {{ return {RTX_NUMBER}; }}" for name in NUMBERS]
    # No plug-ins: image classifiers need none.
    lines.append("int initLibNvInferPlugins(void *logger, const char *name_space) { return 1; }")
    return "\n".join(lines)


def _empty() -> str:
    names = (*POINTERS, *PLAIN, *NUMBERS, *LEGACY, "initLibNvInferPlugins")
    return "\n".join(f"void *{name}(void) {{ return 0; }}" for name in names)
