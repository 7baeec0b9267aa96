"""Subcommands of ``edgeclf``, each a thin layer over the public function of the same name.

Results go to stdout, as text or, with --json, as JSON; progress and messages go to stderr.  Heavy
modules are imported inside the functions, so that --help is fast.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from edgeclf_runtime import __version__
from edgeclf_runtime.text.terminal import printable, printable_json, show_message

from ..display import progress
from ..options import (
    EVALUATED,
    SEED,
    SKIP_UNREADABLE,
    BuildOptions,
    BundleOptions,
    CalibrateOptions,
    CheckOptions,
    ImportOptions,
    MakeOptions,
    QuantizeOptions,
    TrainOptions,
)
from .exits import Commands
from .typer_options import choice, expand_home, plain, with_options

app = typer.Typer(
    name="edgeclf",
    cls=Commands,
    help="Turn a folder of photographs into a classifier that runs on a small device's camera.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: edgeclf demo",
)


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        parser=expand_home,
        help="Class folders, train/val/test folders, a .csv (path,label[,split,group]), elpv or cifar10.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", parser=expand_home, help="A run, an ONNX file or a bundle.")]
RunFolder = Annotated[
    str, typer.Argument(metavar="RUN", parser=expand_home, help="A folder made by edgeclf train or import.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Predictions = Annotated[
    Optional[str],
    typer.Option(
        metavar="FILE.csv", parser=expand_home, help="Write path, label, predicted label and confidence of each image."
    ),
]
if TYPE_CHECKING:
    Listed = str
    Split = str
else:
    Listed = choice("Listed", ("backbones", "targets", "flavors"))
    Split = choice("Split", EVALUATED)
TEST = Split("test")
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier output of edgeclf.")]
Name = Annotated[Optional[str], typer.Option("--name", help="A model of the bundle or run, such as fp32 or int8-cpu.")]


@app.command(epilog="Example: edgeclf check photos/")
@with_options(CheckOptions)
def check(data: Data, options: CheckOptions, json: Json = False) -> None:
    """Find problems in a data set.

    Unreadable files, files left out, empty classes, duplicates, leaks between splits, imbalance, exposure, size.
    Exit code 1 if training would stop.
    """
    from .. import check as function

    report = function(data, options.split, options.image_size, options.resize, options.skip_unreadable)
    _show(report, json)
    if report.errors:
        raise typer.Exit(1)
    _next(json, "edgeclf train", data, "--output", "runs/first")


@app.command(epilog="Example: edgeclf train photos/ --output runs/first --finetune head")
@with_options(TrainOptions)
def train(
    data: Data,
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder of the run; it must not exist yet.")],
    options: TrainOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fine-tune a backbone on labeled images.

    The run keeps weights, split, options and metrics; export, quantize and bundle start from it.
    """
    from .. import train as function

    _show(function(data, output, options, overwrite), json)
    _next(json, "edgeclf evaluate", output, data)
    _next(json, "edgeclf quantize", output)


@app.command(epilog="Example: edgeclf evaluate runs/first photos/ --split test")
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[
        Split, typer.Option(help="Images of DATA to use; all: every one that a run was not trained on.")
    ] = TEST,
    name: Name = None,
    predictions: Predictions = None,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help=SKIP_UNREADABLE)] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure accuracy, macro F1 and confusions on labeled images.

    Of a run, the exported file is measured, and torch before the export or with --name torch.
    """
    from .. import evaluate as function

    _show(function(model, data, plain(split), name, predictions, overwrite, skip_unreadable), json)
    _next_for_model(json, model)


@app.command(epilog="Example: edgeclf predict solar.edge cell1.png cell2.png --json")
def predict(
    model: Model,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", parser=expand_home, help="Image files, folders or patterns.")
    ],
    name: Name = None,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels to list.")] = 5,
    threshold: Annotated[
        Optional[float], typer.Option(min=0, max=1, help='Confidence below which the label is "unknown".')
    ] = None,
    predictions: Predictions = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Classify image files.

    Files that are not images are reported and skipped; the exit code is then 1.
    """
    from ..errors import ImageError
    from ..evaluation.open_model import open_model
    from ..evaluation.predict import each_prediction

    code = 0
    with open_model(model, name, top_k, threshold) as opened:
        for answer in each_prediction(opened.classifier, images, predictions, overwrite):
            if isinstance(answer, ImageError):
                # A file name may contain line breaks.
                show_message(printable(f"error: {answer}"))
                code = answer.exit_code
            else:
                _show(answer, json)
    _next_for_model(json, model)
    raise typer.Exit(code)


@app.command(epilog="Example: edgeclf export runs/first")
def export(
    run: RunFolder,
    output: Annotated[
        Optional[str], typer.Option(parser=expand_home, help="The ONNX file.  [default: model.fp32.onnx in the run]")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the run's network as ONNX, checked against torch.

    Compares the logits of real images; exit code 3 if they differ.
    """
    from .. import export as function

    _show(function(run, output, overwrite), json)
    _next(json, "edgeclf quantize", run)


@app.command(
    "import",
    epilog="Example: edgeclf import model.onnx --labels labels.txt --data photos/ --output runs/imported "
    "--color RGB --range 0-1 --mean imagenet --std imagenet --resize crop",
)
@with_options(ImportOptions)
def import_model(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", parser=expand_home, help="An ONNX file, or a TorchScript file.")
    ],
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder of the run; it must not exist yet.")],
    options: ImportOptions,
    data: Annotated[
        Optional[str],
        typer.Option(
            metavar="DATA",
            parser=expand_home,
            help="Labeled images: accuracy is measured on them, and quantize and bundle need them.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a run of a classifier that another program trained.

    The model is compared with the original.  With --data, accuracy is measured too; exit code 3 if another color order or
    normalization is evidently right.
    """
    from .. import import_model as function

    _show(function(model, output, options, data, overwrite), json)
    _next(
        json, "edgeclf quantize" if data else "edgeclf evaluate", output, *([] if data else ["DATA", "--split", "all"])
    )


@app.command(epilog="Example: edgeclf calibrate photos/ --output calibration/photos --rule diverse --model runs/first")
@with_options(CalibrateOptions)
def calibrate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA", parser=expand_home, help="As for train, or a run, whose own split and seed are used."
        ),
    ],
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder for recipe.json and images.sha256.")],
    options: CalibrateOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Choose training images for calibration.

    Writes only a list of the images and their hashes.  Images that are also in val or test are refused.
    """
    from .. import calibrate as function

    _show(function(source, output, options, overwrite), json)
    run = options.model or (source if _is_run(source) else "RUN")
    _next(json, "edgeclf quantize", run, "--calibration", output)


@app.command(epilog="Example: edgeclf quantize runs/first --calibration calibration/solar-cells")
@with_options(QuantizeOptions)
def quantize(
    run: RunFolder,
    options: QuantizeOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INT8 and FP16 files, each checked against FP32.

    If a file loses too much accuracy, its most sensitive layers go back to float; if that is not enough, the file is
    left out and the others are written.  The exit code is 3 if no file passed, or one named by --flavor did not.  Files
    of earlier calls stay.  quantization.html in the run shows what was tried; quantization.json is for machines.
    """
    from .. import quantize as function
    from ..quantization.report import FlavorError

    try:
        _show(function(run, options, overwrite), json)
    except FlavorError as failed:
        _show(failed.report, json)
        raise
    more = [word for target in options.targets for word in ("--target", target)]
    more += ["--data", options.data] if options.data else []
    _next(json, "edgeclf bundle", run, "--output", _bundle_of(run), *more)


@app.command(epilog="Example: edgeclf bundle runs/first --output solar.edge")
@with_options(BundleOptions)
def bundle(
    run: RunFolder,
    output: Annotated[
        str, typer.Option(metavar="NAME.edge", parser=expand_home, help="Folder of the bundle; it must not exist yet.")
    ],
    options: BundleOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pack a self-contained folder for the device.

    It holds the models, the runtime, and golden images that verify the results on the device.
    """
    from .. import bundle as function

    _show(function(run, output, options, overwrite=overwrite), json)
    _next(json, "python3", output, "selftest")
    _next_on_device(json, output)


@app.command(epilog="Example: edgeclf build solar.edge")
@with_options(BuildOptions)
def build(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", parser=expand_home, help="A folder made by edgeclf bundle.")
    ],
    options: BuildOptions,
    json: Json = False,
) -> None:
    """Build TensorRT engines for this machine's GPU.

    Engines for a Jetson are built on it: python3 NAME.edge build
    """
    from .. import build as function

    report = function(bundle, options)
    _show(report, json)
    if not report.engines:
        raise typer.Exit(1)
    _next(json, "python3", bundle, "bench")


@app.command(epilog="Example: edgeclf make photos/ --output pets.edge --target jetson-orin")
@with_options(MakeOptions)
def make(
    data: Data,
    output: Annotated[
        str, typer.Option(metavar="NAME.edge", parser=expand_home, help="Folder of the bundle; its run is beside it.")
    ],
    options: MakeOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a bundle from labeled images.

    Checks, trains, exports, quantizes, evaluates and bundles.  The run is NAME.run.  The same command again goes on where
    it stopped; it refuses other data or options, and with --overwrite makes again what depends on them.
    """
    from .. import make as function

    _show(function(data, output, options, overwrite), json)
    _next(json, "python3", output, "selftest")
    _next_on_device(json, output)


@app.command("list", epilog="Example: edgeclf list backbones 'efficientnet*'")
def show_list(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    pattern: Annotated[str, typer.Argument(help="Part of the name, or a pattern with * and ?.")] = "*",
    json: Json = False,
) -> None:
    """List backbones, targets or flavors."""
    from .lists import NEXT, list_names

    kind = plain(what)
    report = list_names(kind, pattern)
    _show(report, json)
    _next(json, *NEXT[kind], report.rows[0]["name"])


@app.command(epilog="Example: edgeclf demo --output demo")
def demo(
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder for the results.")] = "edgeclf-demo",
    seed: Annotated[int, typer.Option(help=SEED)] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Run every step on real solar cells, in minutes.

    Trains, quantizes, bundles, and classifies a video of cells not seen in training.
    """
    from .. import demo as function

    _show(function(output, seed, overwrite), json)
    _next(json, "edgeclf make", "photos/", "--output", "pets.edge")


def _show(report: Any, json: bool) -> None:
    print(printable_json(report.to_json()) if json else printable(report, "\n"), flush=True)


def _next(json: bool, command: str, *arguments: str) -> None:
    """Suggest the command that usually follows."""
    if not json:
        show_message(printable(f"next: {command} {shlex.join(arguments)}"))


def _next_for_model(json: bool, model: str) -> None:
    """Suggest the next step after a model was looked at: of a run, of one of its files, or of a bundle."""
    run = model if _is_run(model) else os.path.dirname(model)
    quantized = os.path.isfile(os.path.join(run, "quantization.json"))
    if _is_run(run):
        if quantized:
            _next(json, "edgeclf bundle", run, "--output", _bundle_of(run))
        else:
            _next(json, "edgeclf quantize", run)
    elif os.path.isdir(model):
        _next_on_device(json, model)


def _is_run(path: str) -> bool:
    from ..training.runs import RUN_FILE

    return os.path.isfile(os.path.join(path, RUN_FILE))


def _next_on_device(json: bool, bundle: str) -> None:
    """Suggest copying a bundle to a device, and finding out there what is missing."""
    name = os.path.basename(os.path.abspath(bundle))
    _next(json, "scp -r", bundle, "DEVICE:")
    _next(json, "ssh", "DEVICE", "python3", name, "doctor")


def _bundle_of(run: str) -> str:
    return f"{os.path.basename(os.path.abspath(run))}.edge"


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name may contain bytes that are not valid text.
        sys.stdout.reconfigure(errors="backslashreplace")
    progress.show_progress()
    context.call_on_close(lambda: progress.show_progress(False))
