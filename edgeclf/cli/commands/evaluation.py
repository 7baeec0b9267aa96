"""Commands that measure and use a model: evaluate, robustness, compare, predict and export."""

from __future__ import annotations

import os
from typing import Annotated, Optional

import typer

from edgeclf_runtime.text.terminal import printable, show_message

from ...options import BulkOptions, CompareOptions, EvaluateOptions, ExportOptions, RobustnessOptions
from ..app import Data, Json, Model, Overwrite, RunFolder, app, is_run, next_for_model, next_step, open_page, show
from ..typer_options import expand_home, with_options


@app.command(epilog="Example: edgeclf evaluate runs/first photos/ --split test")
@with_options(EvaluateOptions)
def evaluate(
    model: Model, data: Data, options: EvaluateOptions, overwrite: Overwrite = False, json: Json = False
) -> None:
    """Measure accuracy, calibration and confusions.

    Of a run, the exported file is measured, or before the export a temporary one; torch itself with --name torch.
    """
    from ... import evaluate as function

    show(function(model, data, options=options, overwrite=overwrite), json)
    if options.report is not None:
        open_page(json, options.report)
    next_for_model(json, model, data)


@app.command(epilog="Example: edgeclf robustness runs/first photos/ --corruption motion --corruption dark")
@with_options(RobustnessOptions)
def robustness(model: Model, data: Data, options: RobustnessOptions, json: Json = False) -> None:
    """Measure accuracy on noisy, blurred and dark images, and more.

    Each photograph is corrupted before preprocessing, in five severities, the same every time.
    """
    from ... import robustness as function

    show(function(model, data, options=options), json)
    next_for_model(json, model, data)


@app.command(epilog="Example: edgeclf compare runs/first runs/second photos/")
@with_options(CompareOptions)
def compare(
    a: Annotated[str, typer.Argument(metavar="A", parser=expand_home, help="A run, an ONNX file or a bundle.")],
    b: Annotated[str, typer.Argument(metavar="B", parser=expand_home, help="Another one, or the same.")],
    data: Data,
    options: CompareOptions,
    json: Json = False,
) -> None:
    """Test on the same images which of two models is better.

    Reports the difference with its 95 % interval, what each gets right that the other does not, size and latency.
    """
    from ... import compare as function

    report = function(a, b, data, options=options)
    show(report, json)
    next_for_model(json, a if report.better == "a" else b, data)


@app.command(
    epilog="Example: edgeclf predict solar.edge cell1.png cell2.png --json\n\n"
    "Example: edgeclf predict solar.edge photos/ --output labels.parquet"
)
@with_options(BulkOptions)
def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE",
            parser=expand_home,
            help="Image files, folders or patterns; with --output also .csv and .tar files, and folders below folders.",
        ),
    ],
    options: BulkOptions,
    output: Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE",
            parser=expand_home,
            help="Classify any number of images on all processors, and write a row for each to a .csv or .parquet file.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted --output.")] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Classify image files.

    Files that are not images are reported and skipped, or have a row with an error in --output; the exit code is then 1.
    """
    if output is not None:
        code, done = _predict_to(output, model, images, options, overwrite, resume, json), True
    else:
        code, done = _predict_each(model, images, options, overwrite, resume, json)
    if done and (not os.path.isfile(model) or is_run(os.path.dirname(model))):
        next_for_model(json, model)
    raise typer.Exit(code)


def _predict_to(
    output: str, model: str, images: list[str], options: BulkOptions, overwrite: bool, resume: bool, json: bool
) -> int:
    from ... import bulk_predict
    from ...errors import ImageError

    report = bulk_predict(model, images, output, options, overwrite, resume)
    show(report, json)
    return ImageError.exit_code if report.unreadable else 0


def _predict_each(
    model: str, images: list[str], options: BulkOptions, overwrite: bool, resume: bool, json: bool
) -> tuple[int, bool]:
    """Show the prediction of each image; return the exit code, and whether there was any."""
    from ...errors import ImageError, OptionError
    from ...evaluation.predict import each_prediction

    if resume or options != options.without_bulk():
        raise OptionError("--engine, --workers and --resume are for many images: give --output FILE.parquet, too")
    code, done = 0, False
    for answer in each_prediction(model, images, options, overwrite):
        if isinstance(answer, ImageError):
            # A file name may contain line breaks.
            show_message(printable(f"error: {answer}"))
            code = answer.exit_code
        else:
            show(answer, json)
            done = True
    return code, done


@app.command(epilog="Example: edgeclf export runs/first --format onnx --format openvino")
@with_options(ExportOptions)
def export(
    run: RunFolder,
    options: ExportOptions,
    output: Annotated[
        Optional[str],
        typer.Option(parser=expand_home, help="The file, or the folder of several formats.  [default: in the run]"),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write the network as ONNX or in other formats, checked.

    Compares the logits of real images with torch's; exit code 3 if they differ.  With --format, each file is loaded back by its own
    runtime and timed.
    """
    from ... import export as function
    from ...deployment.formats.export import FormatsError, export_formats

    if options.formats or options.golden:
        try:
            show(export_formats(run, output, options, overwrite), json)
        except FormatsError as failed:
            show(failed.report, json)
            raise
    else:
        show(function(run, output, options, overwrite), json)
    next_step(json, "edgeclf quantize", run)
