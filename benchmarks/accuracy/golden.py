"""Breaks models on purpose and counts how many the bundle's golden images refuse.

    python3 benchmarks/accuracy/golden.py demo/solar.edge --count 200

Method: each trial breaks a copy of a model file in one way, as a converter, a builder or a disk could, or what is done to
the images, and compares the logits with the expected ones, as a device does before it classifies.  The kinds: a few
percent of all weights swapped or set to 0; two output channels of a layer swapped; a layer's weights scaled, its biases
set to 0, or its INT8 steps wrong; wrong color order; wrong mean or scale of the pixels; another crop, resize or
interpolation; two labels swapped, or all moved by one; one logit, or all, shifted.  A trial that changes no logit by
more than a thousandth of the spread, such as one that swaps two channels of zeros, or that the backend cannot load, is
drawn again.

Exit codes: 0 at least 98 of 100 broken models are refused, 3 fewer.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgeclf.graph.host_form import HostRunner
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import compare_logits, golden_images, read_golden
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.runners import open_runner

WANTED = 0.98
SAME = 1e-3


def main() -> None:
    """Break, compare, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--models", nargs="+", default=["fp32", "int8-cpu"])
    parser.add_argument("--backend", default="onnxruntime", help="what computes the broken models (onnxruntime)")
    parser.add_argument("--count", type=int, default=200, help="broken models of each file (200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    rows = [row for name in arguments.models for row in try_all(bundle, name, arguments)]
    refused = sum(row["refused"] for row in rows) / max(1, sum(row["trials"] for row in rows))
    if arguments.json:
        facts = {"bundle": bundle.name, "backend": arguments.backend, "rows": rows, "refused": refused}
        print(json.dumps({"benchmark": "golden", **facts, "machine": machine_facts()}))
    else:
        print(f"{'model':<14} {'broken by':<26} {'trials':>6} {'refused':>7}  accepted: mean difference / limit")
        for row in rows:
            print("{model:<14} {kind:<26} {trials:>6} {refused:>7}  ".format(**row) + ", ".join(row["accepted"]))
        print(f"{refused:.1%} refused")
    sys.exit(0 if refused >= WANTED else 3)


def try_all(bundle: Any, name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each kind of damage of one model file."""
    images = golden_images(bundle)
    right = [as_batch([preprocess(image, bundle.preprocessing)]) for image in images]
    model = bundle.model(name)
    data = bundle.file(model.file).read()
    expected = np.array(read_golden(bundle)["logits"][name], np.float32)
    same = SAME * float(expected.max() - expected.min())
    chance = random.Random(f"{arguments.seed} {name}")
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    accepted: dict[str, list[str]] = collections.defaultdict(list)
    kinds = [kind for kind in (*KINDS, *OTHER_IMAGES) if "steps" not in kind or "int8" in name]
    number = 0
    while sum(trials for trials, _ in counts.values()) < arguments.count:
        kind, number = kinds[number % len(kinds)], number + 1
        broken, batches = onnx.load_model_from_string(data), right
        if kind in KINDS:
            what = KINDS[kind](broken.graph, chance)
        else:
            what, batches = OTHER_IMAGES[kind](images, bundle.preprocessing, chance)
        try:
            found = infer(broken.SerializeToString(), name, batches, arguments.backend)
        except BackendError:  # what cannot be loaded needs no golden images
            continue
        if what is None or np.abs(found - expected).max() <= same:
            continue
        report = compare_logits(model, arguments.backend, expected, found)
        counts[kind][0] += 1
        counts[kind][1] += not report.passed
        if report.passed:
            accepted[kind].append(f"{report.mean_difference / report.tolerance.mean:.2f} ({what})")
    return [
        {"model": name, "kind": kind, "trials": trials, "refused": refused, "accepted": accepted[kind]}
        for kind, (trials, refused) in counts.items()
    ]


def infer(data: bytes, name: str, batches: list[np.ndarray], backend: str) -> np.ndarray:
    """Return a model's logits, [images, labels]."""
    with tempfile.TemporaryDirectory(prefix="golden.") as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(data)
        if backend == "onnxruntime":
            opened: Any = HostRunner(path, threads=1, name=name)
        else:
            opened = open_runner(backend, path, threads=1)
        with opened as runner:
            return np.concatenate([runner.infer(batch) for batch in batches])


def weights_of(graph: Any) -> list[Any]:
    """Return the weights of the layers, as INT8 or float."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            name = node.input[1]
            while name in made_by and made_by[name].op_type in ("DequantizeLinear", "QuantizeLinear"):
                name = made_by[name].input[0]
            if name in tensors and tensors[name].dims[0] > 1:
                found.append(tensors[name])
    return found


def change(tensor: Any, function: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a tensor's values."""
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(function(values.copy()).astype(values.dtype)), tensor.name)
    )


def some_weights(graph: Any, chance: random.Random, lost: bool) -> str:
    """Lose, or exchange among each other, 1 to 5 percent of the weights of every layer."""
    share = chance.choice((0.01, 0.02, 0.03, 0.05))
    draw = np.random.RandomState(chance.getrandbits(32))
    for tensor in weights_of(graph):

        def exchange(values: np.ndarray) -> np.ndarray:
            flat = values.reshape(-1)
            places = draw.choice(flat.size, max(2, round(share * flat.size)), replace=False)
            flat[places] = 0 if lost else flat[np.roll(places, 1)]
            return values

        change(tensor, exchange)
    return f"{share:.0%}"


def channels(graph: Any, chance: random.Random) -> str:
    """Exchange two output channels of a layer."""
    tensor = chance.choice(weights_of(graph)[:-1])
    one, other = chance.sample(range(tensor.dims[0]), 2)

    def exchange(values: np.ndarray) -> np.ndarray:
        values[[one, other]] = values[[other, one]]
        return values

    change(tensor, exchange)
    return tensor.name[-60:]


def before_first(graph: Any, function: Callable[[str], tuple[list[Any], str]]) -> None:
    """Let the readers of the image read what ``function`` makes of it."""
    readers = [node for node in graph.node if "image" in node.input]
    nodes, name = function("image")
    for node in readers:
        for place, given in enumerate(node.input):
            if given == "image":
                node.input[place] = name
    for node in reversed(nodes):
        graph.node.insert(0, node)


def colors(graph: Any, chance: random.Random) -> str:
    """Give the model the colors in the other order."""
    order = chance.choice(([2, 1, 0], [1, 0, 2], [0, 2, 1], [1, 2, 0]))
    graph.initializer.append(numpy_helper.from_array(np.array(order, np.int64), "other_order"))
    node = onnx.helper.make_node("Gather", ["image", "other_order"], ["other_image"], axis=3)
    before_first(graph, lambda _: ([node], "other_image"))
    return "".join("rgb"[place] for place in order)


def pixels(graph: Any, chance: random.Random, operator: str) -> str:
    """Shift or scale the pixels, as another mean or standard deviation would."""
    value = chance.choice((-20, -10, 10, 20)) if operator == "Add" else chance.choice((0.8, 0.9, 1.1, 1.25))
    graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), "other_value"))
    node = onnx.helper.make_node(operator, ["image", "other_value"], ["other_image"])
    before_first(graph, lambda _: ([node], "other_image"))
    return f"{operator} {value}"


def biases(graph: Any, chance: random.Random) -> str | None:
    """Lose the biases of a layer."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    found = []
    for node in graph.node:
        if node.op_type == "Conv" and len(node.input) > 2:
            name = node.input[2]
            name = made_by[name].input[0] if name in made_by else name
            found.append(tensors[name])
    if not found:
        return None
    tensor = chance.choice(found)
    change(tensor, np.zeros_like)
    return tensor.name[-60:]


def scaled(graph: Any, chance: random.Random) -> str:
    """Scale a layer's weights but not its biases."""
    tensor, factor = chance.choice(weights_of(graph)), chance.choice((0.8, 0.9, 1.1, 1.25))
    change(tensor, lambda values: np.clip(values * factor, *limits_of(values)))
    return f"{tensor.name[-50:]} {factor}"


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest number of a type."""
    kind = np.iinfo(values.dtype) if values.dtype.kind == "i" else np.finfo(values.dtype)
    return float(kind.min), float(kind.max)


def steps(graph: Any, chance: random.Random, of_weights: bool) -> str:
    """Make the steps of an activation, or of a layer's weights, larger or smaller."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    scales = [
        node.input[1]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and (node.input[0] in tensors) == of_weights
    ]
    tensor, factor = tensors[chance.choice(scales)], chance.choice((0.8, 0.9, 1.1, 1.25))
    change(tensor, lambda values: values * factor)
    return f"{tensor.name[-50:]} {factor}"


def labels(graph: Any, chance: random.Random) -> str:
    """Exchange two labels."""
    tensor = weights_of(graph)[-1]
    count = next(output.type.tensor_type.shape.dim[1].dim_value for output in graph.output)
    axis = list(tensor.dims).index(count)
    one, other = chance.sample(range(count), 2)
    order = list(range(count))
    order[one], order[other] = other, one
    change(tensor, lambda values: values.take(order, axis))
    return f"{one}, {other}"


def moved_labels(graph: Any, chance: random.Random) -> str:
    """Give each label the next one's place."""
    tensor = weights_of(graph)[-1]
    count = next(output.type.tensor_type.shape.dim[1].dim_value for output in graph.output)
    axis = list(tensor.dims).index(count)
    change(tensor, lambda values: np.roll(values, 1, axis))
    return "by one"


def logits(graph: Any, chance: random.Random, one: bool) -> str:
    """Shift all logits, or one label's, as a wrong bias of the last layer does."""
    shift = chance.choice((-1.0, -0.5, 0.5, 1.0))
    count = next(output.type.tensor_type.shape.dim[1].dim_value for output in graph.output)
    values = np.full(count, shift, np.float32)
    if one:
        values[np.arange(count) != chance.randrange(count)] = 0
    graph.initializer.append(numpy_helper.from_array(values, "shift"))
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    last.output[list(last.output).index(graph.output[0].name)] = "before_shift"
    graph.node.append(onnx.helper.make_node("Add", ["before_shift", "shift"], [graph.output[0].name]))
    return str(shift)


def resized(images: list[Any], spec: Preprocessing, chance: random.Random) -> tuple[str, list[np.ndarray]]:
    """Crop or resize the images in another way."""
    modes = [mode for mode in ("crop", "stretch", "letterbox") if mode != spec.resize]
    other = chance.choice([spec._replace(resize=mode) for mode in modes] + [spec._replace(crop=0.875 * spec.crop)])
    batches = [as_batch([preprocess(image, other)]) for image in images]
    return f"{other.resize} {other.crop:.3f}", batches


def interpolated(images: list[Any], spec: Preprocessing, chance: random.Random) -> tuple[str, list[np.ndarray]]:
    """Resize the images by another interpolation."""
    import cv2

    name = chance.choice(("INTER_NEAREST", "INTER_CUBIC", "INTER_LANCZOS4"))
    with_other = cv2.resize

    def resize(image: Any, size: Any, **_: Any) -> Any:
        return with_other(image, size, interpolation=getattr(cv2, name))

    cv2.resize = resize
    try:
        return name, [as_batch([preprocess(image, spec)]) for image in images]
    finally:
        cv2.resize = with_other


def bgr(images: list[Any], spec: Preprocessing, _: random.Random) -> tuple[str, list[np.ndarray]]:
    """Give the model BGR for RGB, as a device that forgets the conversion."""
    other = spec._replace(color="BGR" if spec.color == "RGB" else "RGB")
    return other.color, [as_batch([preprocess(image, other)]) for image in images]


OTHER_IMAGES: dict[str, Callable[[list[Any], Preprocessing, random.Random], tuple[str, list[np.ndarray]]]] = {
    "crop or resize": resized,
    "interpolation": interpolated,
    "BGR and RGB exchanged": bgr,
}
KINDS: dict[str, Callable[[Any, random.Random], str | None]] = {
    "weights exchanged": lambda graph, chance: some_weights(graph, chance, lost=False),
    "weights lost": lambda graph, chance: some_weights(graph, chance, lost=True),
    "channels exchanged": channels,
    "color order": colors,
    "mean of the pixels": lambda graph, chance: pixels(graph, chance, "Add"),
    "scale of the pixels": lambda graph, chance: pixels(graph, chance, "Mul"),
    "biases of a layer lost": biases,
    "weights of a layer scaled": scaled,
    "steps of a layer wrong": lambda graph, chance: steps(graph, chance, of_weights=False),
    "steps of weights wrong": lambda graph, chance: steps(graph, chance, of_weights=True),
    "labels exchanged": labels,
    "labels moved": moved_labels,
    "logits shifted": lambda graph, chance: logits(graph, chance, one=False),
    "a logit shifted": lambda graph, chance: logits(graph, chance, one=True),
}


if __name__ == "__main__":
    main()
