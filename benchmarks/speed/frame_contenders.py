"""Ways from a frame to its label, and what they read: the same pictures, as frames and as a video, and the same weights.

Each opener returns what classifies one frame, and what yields the labels of a video.  Each import is inside the function
that needs it, so that a process loads only one library.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = (1280, 720)
VIDEO, FRAMES, YOLO, YOLO_OURS = "frames.avi", "frames.npy", "yolo.onnx", "yolo-pixels.onnx"
_PICTURES, _VIDEO_FRAMES = 8, 900


Frame = np.ndarray
Step = Callable[[Frame], object]
Labels = Callable[[str], Iterable[object]]


def make_pictures(run: str, work: Path) -> None:
    """Write test images of the run, scaled to a camera's frames, as an array and as an MJPEG video."""
    import cv2

    from edgeclf.training.runs import read_run
    from edgeclf_runtime.images.read import read_image

    samples = read_run(run).dataset().split("test")[:_PICTURES]
    frames = [cv2.resize(read_image(sample.path), SIZE) for sample in samples]
    np.save(work / FRAMES, np.stack(frames))
    writer = cv2.VideoWriter(str(work / VIDEO), cv2.VideoWriter.fourcc(*"MJPG"), 30, SIZE)
    for number in range(_VIDEO_FRAMES):
        writer.write(frames[number % len(frames)])
    writer.release()


def make_yolo(yaml: str, work: Path) -> None:
    """Export ultralytics' classifier, with random weights, as it does itself, and in the form that edgeclf runs."""
    import onnx

    ultralytics = import_ultralytics(work)
    os.chdir(work)  # it writes there, whatever is asked for
    os.rename(ultralytics.YOLO(yaml).export(format="onnx", imgsz=224, simplify=False, verbose=False), YOLO)
    model = onnx.load(YOLO)
    take_pixels(model)
    onnx.save(model, YOLO_OURS)


def import_ultralytics(work: Path) -> Any:
    """Import ultralytics so that it asks nobody, reports nothing, installs nothing, and keeps its settings in ``work``."""
    os.environ.update({"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(work)})
    import ultralytics

    return ultralytics


def take_pixels(model: Any) -> None:
    """Change a model (onnx.ModelProto) of RGB [1, 3, height, width] from 0 to 1 into one of pixels, and drop its softmax.

    Its nodes and weights stay as they are; the new input is ``image``, float32 [1, height, width, 3], 0 to 255.
    """
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    theirs = graph.input[0]
    _, _, height, width = (dim.dim_value for dim in theirs.type.tensor_type.shape.dim)
    nodes = [
        helper.make_node("Transpose", ["image"], ["edgeclf_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["edgeclf_nchw", "edgeclf_scale"], [theirs.name]),
        *graph.node,
    ]
    if nodes[-1].op_type == "Softmax":
        graph.output[0].name = nodes.pop().input[0]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, height, width, 3]))
    graph.initializer.append(numpy_helper.from_array(np.array(1 / 255, np.float32), "edgeclf_scale"))
    onnx.checker.check_model(model)


def _bare(file: Path, arguments: argparse.Namespace) -> tuple[Step, Labels]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = arguments.threads, 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in given.shape]
    batch = np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)

    def run(frame: Frame) -> object:
        return session.run(None, {given.name: batch})

    return run, lambda video: iter(lambda: run(batch), None)


def _edgeclf(file: Path, arguments: argparse.Namespace) -> tuple[Step, Labels]:
    from edgeclf_runtime.capture.open_camera import open_camera
    from edgeclf_runtime.classify.classifier import Classifier
    from edgeclf_runtime.images.preprocess import Preprocessing
    from edgeclf_runtime.runners import open_runner

    def open_classifier(at_once: int) -> Classifier:
        runner = open_runner("onnxruntime", file, arguments.threads, at_once)
        facts = json.loads(runner.metadata.get("edgeclf", "{}"))
        spec = Preprocessing(**facts["preprocessing"]) if facts else Preprocessing(224, 224)
        labels = facts.get("labels") or [str(number) for number in range(1000)]
        return Classifier(runner, labels, spec, at_once=at_once)

    def stream(video: str) -> Iterator[object]:
        with open_classifier(arguments.threads) as classifier, open_camera(video, policy="all") as camera:
            yield from classifier.stream(camera)

    return open_classifier(1).classify, stream


def _tutorial(file: None, arguments: argparse.Namespace) -> tuple[Step, Labels]:
    import cv2
    import torch
    from PIL import Image
    from torchvision import transforms

    from edgeclf.training.runs import read_run

    torch.set_num_threads(arguments.threads)
    run = read_run(arguments.run)
    network = run.network().backbone
    side, config = run.preprocessing.height, network.pretrained_cfg
    steps = [transforms.Resize(side), transforms.CenterCrop(side), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(config["mean"], config["std"])])

    def classify(frame: Frame) -> str:
        image = Image.fromarray(cv2.cvtColor(np.asarray(frame), cv2.COLOR_BGR2RGB))
        with torch.no_grad():
            confidences = torch.softmax(network(transform(image).unsqueeze(0)), 1)
        return run.labels[int(confidences.argmax())]

    return classify, lambda video: (classify(frame) for frame in _frames(video))


def _ultralytics(file: None, arguments: argparse.Namespace) -> tuple[Step, Labels]:
    model = import_ultralytics(arguments.work).YOLO(str(arguments.work / YOLO), task="classify")

    def classify(frame: Frame) -> int:
        return model.predict(frame, verbose=False)[0].probs.top1

    return classify, lambda video: (result.probs.top1 for result in model.predict(video, stream=True, verbose=False))


def _decode(file: None, arguments: argparse.Namespace) -> tuple[Step, Labels]:
    video = str(arguments.work / VIDEO)
    frames = itertools.chain.from_iterable(_frames(video) for _ in itertools.count())
    return lambda frame: next(frames), _frames


def _frames(video: str) -> Iterator[Frame]:
    import cv2

    capture = cv2.VideoCapture(video)
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield frame


OPENERS: dict[str, Callable[..., tuple[Step, Labels]]] = {
    "bare": _bare,
    "edgeclf": _edgeclf,
    "tutorial": _tutorial,
    "ultralytics": _ultralytics,
    "decode": _decode,
}
