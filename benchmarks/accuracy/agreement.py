"""Compares torch, the exported FP32 file and the runtime on another Python on every test image.

    python3 benchmarks/accuracy/agreement.py demo/run demo/solar.edge --python PATH_OF_PYTHON3.6

Method: every test image of the run goes through the run's torch network and the bundle's FP32 model
here, and through the bundle's FP32 model in a process of the other interpreter, which imports nothing
but the runtime inside the bundle.  Labels are counted where all three agree; logits are compared
with torch's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from edgeclf.data.pixels import load_batches
from edgeclf.evaluation.open_model import open_model
from edgeclf.graph.inference import infer
from edgeclf.training.runs import read_run
from edgeclf_runtime.commands.bench import machine_facts

# What the other interpreter runs; Python 3.6 on.
OTHER = """
import json, sys
bundle_path, listing, output = sys.argv[1:]
sys.path.insert(0, bundle_path)
sys.dont_write_bytecode = True
import numpy as np
from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.images.preprocess import as_batch, preprocess
with Classifier.open(bundle_path, "fp32") as classifier:
    pixels = (preprocess(read_image(path), classifier.preprocessing) for path in json.load(open(listing)))
    np.save(output, np.concatenate([classifier.runner.infer(as_batch([image])) for image in pixels]))
print(json.dumps(machine_facts()))
"""


def main() -> None:
    """Compare, print and set the exit code: 0 where all labels agree and logits are within 1e-3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a folder made by edgeclf train")
    parser.add_argument("bundle", help="its bundle")
    parser.add_argument("--python", required=True, help="another interpreter with numpy, OpenCV and onnxruntime")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    samples = read_run(arguments.run).dataset().split("test")
    logits = {}
    for name, model, which in (("torch", arguments.run, "torch"), ("onnx", arguments.bundle, "fp32")):
        with open_model(model, which) as opened:
            logits[name] = infer(
                opened.classifier.runner,
                load_batches([sample.path for sample in samples], opened.classifier.preprocessing, 1, name),
            )
    logits["runtime"], facts = _on_other_python(
        arguments.python, Path(arguments.bundle).resolve(), [str(s.path) for s in samples]
    )
    labels = {name: values.argmax(1) for name, values in logits.items()}
    report = {
        "images": len(samples),
        "labels_agree": int(((labels["torch"] == labels["onnx"]) & (labels["torch"] == labels["runtime"])).sum()),
        "largest_difference_onnx": float(np.abs(logits["onnx"] - logits["torch"]).max()),
        "largest_difference_runtime": float(np.abs(logits["runtime"] - logits["torch"]).max()),
        "host": machine_facts(),
        "other": facts,
    }
    if arguments.json:
        print(json.dumps(report))
    else:
        print(
            f"{report['labels_agree']} of {report['images']} labels agree; largest difference of a logit from torch: "
            f"FP32 file {report['largest_difference_onnx']:.1e}, runtime on Python {facts['python']} "
            f"(numpy {facts['numpy']}, OpenCV {facts['opencv']}, onnxruntime {facts['onnxruntime']}) "
            f"{report['largest_difference_runtime']:.1e}"
        )
    worst = max(report["largest_difference_onnx"], report["largest_difference_runtime"])
    raise SystemExit(report["labels_agree"] != report["images"] or worst > 1e-3)


def _on_other_python(python: str, bundle: Path, paths: list[str]) -> tuple[np.ndarray, dict]:
    with tempfile.TemporaryDirectory() as folder:
        listing, output = Path(folder, "images.json"), Path(folder, "logits.npy")
        listing.write_text(json.dumps(paths))
        command = [
            os.path.abspath(python) if os.sep in python else python,
            "-c",
            OTHER,
            str(bundle),
            str(listing),
            str(output),
        ]
        process = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        return np.load(output), json.loads(process.stdout)


if __name__ == "__main__":
    main()
