"""Makes a small bundle with a real model in a blink, for programs that damage thousands of its copies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import edgeclf_runtime
from edgeclf_runtime.files.read import sha256_bytes, sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

LABELS = ("cat", "dog", "fox", "owl", "toad")
SIDE = 32
IMAGES = 4


def make_small_bundle(folder: Path) -> None:
    """Write a bundle of one linear model, four golden images and the present runtime into a folder that is not there."""
    import cv2

    folder.mkdir()
    (folder / "golden").mkdir()
    (folder / "model.fp32.onnx").write_bytes(linear_model().SerializeToString())
    random = np.random.default_rng(0)
    names = [f"golden/{number:03d}.png" for number in range(IMAGES)]
    for name in names:
        cv2.imwrite(str(folder / name), random.integers(0, 255, (40, 48, 3), np.uint8))
    spec = Preprocessing(SIDE, SIDE)
    with OnnxRuntimeRunner(folder / "model.fp32.onnx", threads=1) as runner:
        rows = [runner.infer(as_batch([preprocess(read_image(folder / name), spec)]))[0].tolist() for name in names]
    (folder / "golden" / "expected.json").write_text(
        json.dumps({"images": names, "labels": LABELS, "logits": {"fp32": rows}})
    )
    source = Path(edgeclf_runtime.__file__).parent
    shutil.copytree(source, folder / "edgeclf_runtime", ignore=shutil.ignore_patterns("__pycache__", "bundle_entry.py"))
    shutil.copyfile(source / "bundle_entry.py", folder / "__main__.py")
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        if place.name != "golden":
            (place / "__pycache__").touch()
    seal(folder, manifest(folder, spec))


def linear_model() -> Any:
    """Return an onnx.ModelProto: the mean of each channel times a matrix."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).normal(0, 0.01, (3, len(LABELS))).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(LABELS)])
    graph = helper.make_graph(nodes, "linear", [image], [logits], [numpy_helper.from_array(weights, "weights")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def manifest(folder: Path, spec: Preprocessing) -> dict[str, Any]:
    """Return the manifest of what is in the folder, as ``edgeclf bundle`` writes it."""
    model = {
        "name": "fp32",
        "file": "model.fp32.onnx",
        "precision": "fp32",
        "backends": ["onnxruntime"],
        "temperature": 1.5,
        "threshold": 0.25,
        "tolerances": {"default": {"largest": 0.001, "mean": 0.0005, "divergence": 0.000001}},
        "metrics": {"split": "test", "images": 100, "accuracy": 0.9, "macro_f1": 0.89, "confidence": {"ece": 0.01}},
    }
    return {
        "format": "edgeclf-bundle",
        "format_version": 2,
        "name": "small",
        "labels": list(LABELS),
        "preprocessing": dict(spec._asdict()),
        "models": [model],
        "order": {"x86_64": ["fp32"], "default": ["fp32"]},
        "provenance": {"data": {"name": "animals", "split": None}, "versions": {"python": "3.11"}},
        "files": files_of(folder),
    }


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of every regular file but the manifest's own, by name."""
    return {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name not in ("manifest.json", "manifest.sha256")
    }


def seal(folder: Path, content: dict[str, Any] | bytes) -> None:
    """Write a manifest, or the bytes that stand for one, and the hash of it."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sha256").write_text(f"{sha256_bytes(data)}  manifest.json\n", encoding="ascii")
