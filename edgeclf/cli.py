"""The command line: one subcommand for each public function of the same name, and no logic.

What was asked for goes to stdout, as text or, with --json, as JSON; progress and messages go to
stderr.  Heavy imports happen inside the functions, so that --help answers at once.
"""

from __future__ import annotations

import dataclasses
import io
import os
import shlex
import sys
from typing import Annotated, Any, Optional

import typer

from edgeclf_runtime import __version__
from edgeclf_runtime.text.terminal import printable, printable_json, show_message

from . import progress
from .exits import Commands

app = typer.Typer(
    name="edgeclf",
    cls=Commands,
    help="From a folder of photographs to a classifier that runs on a Jetson's camera, proved at every step.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: edgeclf demo",
)


def _path(text: str) -> str:
    # Shells leave the ~ of --output=~/runs alone.
    path = os.path.expanduser(text)
    if path.startswith("~") and not os.path.lexists(path):
        # Without HOME and an entry in /etc/passwd a folder named "~" would be made.
        raise typer.BadParameter(f"{text!r}: there is no such home; set HOME, name the folder, or write ./{text}")
    return path


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        parser=_path,
        help="Class folders, train/val/test folders, a .csv (path,label[,split]), elpv or cifar10.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", parser=_path, help="A run, an ONNX file or a bundle.")]
RunFolder = Annotated[str, typer.Argument(metavar="RUN", parser=_path, help="A folder made by edgeclf train.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what edgeclf made there before.")]
Name = Annotated[Optional[str], typer.Option("--name", help="Which model of a bundle or run, say fp32 or int8-cpu.")]
Seed = Annotated[int, typer.Option(help="The same seed, data and versions give the same result.")]


@app.command(epilog="Example: edgeclf check photos/")
def check(data: Data, seed: Seed = 0, json: Json = False) -> None:
    """Find what is wrong with a data set.

    Unreadable files, empty classes, copies, leaks between splits, imbalance.  Exit code 1 where training would stop.
    """
    from . import SplitOptions
    from . import check as function

    report = function(data, SplitOptions(seed=seed))
    _show(report, json)
    if report.errors:
        raise typer.Exit(1)
    _next(json, "edgeclf train", data, "--output", "runs/first")


@app.command(epilog="Example: edgeclf train photos/ --output runs/first --finetune head")
def train(
    data: Data,
    output: Annotated[str, typer.Option(parser=_path, help="The run's folder, which must not exist.")],
    backbone: Annotated[str, typer.Option(help="A timm model's name.")] = "efficientnet_lite0",
    weights: Annotated[
        str, typer.Option(parser=_path, help="imagenet (from an installed package), none, or a file of a state dict.")
    ] = "imagenet",
    finetune: Annotated[
        str, typer.Option(help="head: train on features of the frozen backbone; full: train every layer.")
    ] = "head",
    epochs: Annotated[
        Optional[int], typer.Option(help="Passes over the images.  [default: 12 for head, 8 for full]")
    ] = None,
    image_size: Annotated[
        Optional[int], typer.Option(help="Side of the square that the model sees.  [default: the backbone's]")
    ] = None,
    resize: Annotated[
        str, typer.Option(help="crop: the centred square; stretch or letterbox: the whole image.")
    ] = "crop",
    batch_size: Annotated[int, typer.Option(help="Images in a step of training.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Peak of the one-cycle schedule.")] = 1e-3,
    flips: Annotated[
        str, typer.Option(help="Augmentation of full fine-tuning: none, horizontal or all.")
    ] = "horizontal",
    seed: Seed = 0,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be decoded.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fine-tune a backbone on labelled images.

    The run keeps weights, split, options and metrics, for export, quantize and bundle.
    """
    from . import TrainOptions
    from . import train as function

    options = TrainOptions(
        backbone=backbone,
        weights=weights,
        finetune=finetune,
        epochs=epochs,
        image_size=image_size,
        resize=resize,
        batch_size=batch_size,
        learning_rate=learning_rate,
        flips=flips,
        seed=seed,
        skip_unreadable=skip_unreadable,
    )
    _show(function(data, output, options, overwrite), json)
    _next(json, "edgeclf evaluate", output, data)


@app.command(epilog="Example: edgeclf evaluate runs/first photos/ --split test")
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[str, typer.Option(help="train, val, test, or all of DATA that training never saw.")] = "test",
    name: Name = None,
    json: Json = False,
) -> None:
    """Measure accuracy, macro F1 and confusions on labelled images."""
    from . import evaluate as function

    _show(function(model, data, split, name), json)


@app.command(epilog="Example: edgeclf predict solar.edge cell1.png cell2.png --json")
def predict(
    model: Model,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", parser=_path, help="Image files, folders or patterns.")
    ],
    name: Name = None,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to list.")] = 5,
    threshold: Annotated[
        Optional[float], typer.Option(min=0, max=1, help='Confidence below which the label is "unknown".')
    ] = None,
    json: Json = False,
) -> None:
    """Classify image files.

    A file that is no image is told, and the others are classified; exit code 1 where there was one.
    """
    from .errors import ImageError
    from .evaluation.opening import open_model
    from .evaluation.predict import predictions

    code = 0
    with open_model(model, name, top_k, threshold) as opened:
        for answer in predictions(opened.classifier, images):
            if isinstance(answer, ImageError):
                # One line, whatever the file's name is.
                show_message(printable(f"error: {answer}"))
                code = answer.exit_code
            else:
                _show(answer, json)
    raise typer.Exit(code)


@app.command(epilog="Example: edgeclf export runs/first")
def export(
    run: RunFolder,
    output: Annotated[
        Optional[str], typer.Option(parser=_path, help="The ONNX file.  [default: model.fp32.onnx in the run]")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the run's network as ONNX, compared with torch.

    The logits of real images are compared; exit code 3 where they differ.
    """
    from . import export as function

    _show(function(run, output, overwrite), json)
    _next(json, "edgeclf quantize", run)


@app.command(epilog="Example: edgeclf calibrate photos/ --output calibration/photos --rule diverse --model runs/first")
def calibrate(
    data: Data,
    output: Annotated[str, typer.Option(parser=_path, help="The set's folder: recipe.json and images.sha256.")],
    size: Annotated[int, typer.Option(min=1, help="Images of the set.")] = 300,
    rule: Annotated[
        str,
        typer.Option(
            help="stratified: each label by its share; random; diverse: far from each other; uncertain: least certain."
        ),
    ] = "stratified",
    model: Annotated[
        Optional[str], typer.Option(metavar="RUN", parser=_path, help="What diverse and uncertain look by.")
    ] = None,
    seed: Seed = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Accept few images of a label, and images of one colour.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Choose training images for calibration.

    Only their list is written, each with its hash; images that are also in val or test are refused.
    """
    from . import CalibrateOptions
    from . import calibrate as function

    _show(function(data, output, CalibrateOptions(size, rule, model, seed, force), overwrite), json)
    _next(json, "edgeclf quantize", model or "RUN", "--calibration", output)


@app.command(epilog="Example: edgeclf quantize runs/first --calibration calibration/solar-cells")
def quantize(
    run: RunFolder,
    calibration: Annotated[
        Optional[str],
        typer.Option(parser=_path, help="A calibration set's folder.  [default: images from the run's train split]"),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Images to select where no set is given.")] = 300,
    flavor: Annotated[
        Optional[list[str]], typer.Option(help="A file to write, say int8-cpu; may be repeated.  [default: all]")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="How activations' ranges are found: minmax, percentile, entropy or mse; best: all are tried for each file."
        ),
    ] = "best",
    max_drop: Annotated[float, typer.Option(help="Largest loss of accuracy against FP32 that is accepted.")] = 0.01,
    seed: Seed = 0,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Measure torch's dynamic quantization too, for comparison.")
    ] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INT8 and FP16 files, each held to FP32's accuracy.

    Layers go back to float where a file falls short. Exit code 3, and none is kept, where that is not enough.
    quantization.html in the run shows what was tried, quantization.json holds the same for machines.
    """
    from . import QuantizeOptions
    from . import quantize as function
    from .targets import FLAVORS

    options = QuantizeOptions(calibration, size, tuple(flavor or FLAVORS), method, max_drop, seed, baseline)
    _show(function(run, options, overwrite), json)
    _next(json, "edgeclf bundle", run, "--output", f"{os.path.basename(os.path.abspath(run))}.edge")


@app.command(epilog="Example: edgeclf bundle runs/first --output solar.edge")
def bundle(
    run: RunFolder,
    output: Annotated[
        str, typer.Option(metavar="NAME.edge", parser=_path, help="The bundle's folder, which must not exist.")
    ],
    target: Annotated[
        Optional[list[str]], typer.Option(help="A device that it is for; may be repeated.  [default: all]")
    ] = None,
    precision: Annotated[
        Optional[float], typer.Option(help='Give the label "unknown" so that this share of the others is right.')
    ] = None,
    coverage: Annotated[
        Optional[float], typer.Option(help='Give the label "unknown" to the least certain, so that this share is left.')
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pack a folder that a device runs by itself.

    It holds the models, the runtime, and golden images that prove a device's answers.
    """
    from . import BundleOptions
    from . import bundle as function

    options = BundleOptions(precision=precision, coverage=coverage)
    if target:
        options = dataclasses.replace(options, targets=tuple(target))
    _show(function(run, output, options, overwrite=overwrite), json)
    _next(json, "python3", output, "selftest")


@app.command(epilog="Example: edgeclf build solar.edge")
def build(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", parser=_path, help="A folder made by edgeclf bundle.")],
    target: Annotated[Optional[str], typer.Option(help="The device.  [default: this machine]")] = None,
    model: Annotated[Optional[str], typer.Option(help="This model of the bundle alone.")] = None,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16 or int8 alone; best: all, and remember the fastest that is right.")
    ] = "best",
    workspace: Annotated[
        Optional[int], typer.Option(metavar="MB", help="Memory that a build may work with.  [default: by the GPU's]")
    ] = None,
    level: Annotated[Optional[int], typer.Option(help="TensorRT's optimisation level, 0 to 5.  [default: 3]")] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engines for later versions of TensorRT too; slower.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Engines for other GPUs since Ampere too; slower.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Build anew what is kept or failed before.")] = False,
    json: Json = False,
) -> None:
    """Build TensorRT engines for this machine's GPU.

    Those for a Jetson are built there: python3 NAME.edge build.
    """
    from . import BuildOptions, EngineOptions
    from . import build as function

    engine = EngineOptions(
        workspace_mb=workspace,
        level=level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        retry=retry,
    )
    report = function(bundle, BuildOptions(target, model, precision, engine))
    _show(report, json)
    if not report.engines:
        raise typer.Exit(1)


@app.command(epilog="Example: edgeclf demo --output demo")
def demo(
    output: Annotated[
        str, typer.Option(parser=_path, help="The folder for everything that it makes.")
    ] = "edgeclf-demo",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Go the whole way on real solar cells, in minutes.

    Train, quantise, bundle, and classify a video of cells that training never saw.
    """
    from . import demo as function

    _show(function(output, seed, overwrite), json)


def _show(report: Any, json: bool) -> None:
    print(printable_json(report.to_json()) if json else printable(report, "\n"), flush=True)


def _next(json: bool, command: str, *arguments: str) -> None:
    """Suggest the command that usually follows."""
    if not json:
        show_message(printable(f"next: {command} {shlex.join(arguments)}"))


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold bytes that are no text.
        sys.stdout.reconfigure(errors="backslashreplace")
    progress.show_progress()


if __name__ == "__main__":
    app()
