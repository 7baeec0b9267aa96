import numpy as np

from edgeclf.evaluation.evaluate import infer_samples
from edgeclf.evaluation.inference import infer_file
from edgeclf.evaluation.opening import open_model
from edgeclf.training.runs import read_run


def test_logits_come_in_the_order_of_the_images_and_are_those_of_one_image_at_a_time(run):
    opened = read_run(run)
    samples = opened.dataset().split("val")
    logits = infer_file(run / "model.fp32.onnx", "fp32", [sample.path for sample in samples], opened.preprocessing, "")
    with open_model(run / "model.fp32.onnx") as model:
        assert np.abs(infer_samples(model, samples, "") - logits).max() < 1e-4
