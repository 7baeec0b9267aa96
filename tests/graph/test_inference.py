import numpy as np

from edgeclf.data.pixels import load_batches
from edgeclf.evaluation.open_model import open_model
from edgeclf.graph.inference import infer, infer_file
from edgeclf.training.runs import read_run


def test_logits_come_in_the_order_of_the_images_and_are_those_of_one_image_at_a_time(run):
    opened = read_run(run)
    paths = [sample.path for sample in opened.dataset().split("val")]
    batches = list(load_batches(paths, opened.preprocessing, 1, ""))
    logits = infer_file(run / "model.fp32.onnx", "fp32", batches)
    with open_model(run / "model.fp32.onnx") as model:
        assert np.abs(infer(model.classifier.runner, batches) - logits).max() < 1e-4
