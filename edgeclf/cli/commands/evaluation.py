"""Commands that measure and use a model: evaluate, robustness, compare, predict and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgeclf_runtime.text.terminal import printable, show_message

from ...options import EVALUATED, SKIP_UNREADABLE, ExportOptions, RobustnessOptions
from ..app import (
    Data,
    Json,
    Model,
    Name,
    Overwrite,
    Predictions,
    RunFolder,
    app,
    next_for_model,
    next_step,
    open_page,
    show,
)
from ..typer_options import choice, expand_home, plain, with_options

if TYPE_CHECKING:
    Split = str
else:
    Split = choice("Split", EVALUATED)
TEST = Split("test")
OfSplit = Annotated[Split, typer.Option(help="Images of DATA to use; all: every one that a run was not trained on.")]
SkipUnreadable = Annotated[bool, typer.Option("--skip-unreadable", help=SKIP_UNREADABLE)]


@app.command(epilog="Example: edgeclf evaluate runs/first photos/ --split test")
def evaluate(
    model: Model,
    data: Data,
    split: OfSplit = TEST,
    name: Name = None,
    predictions: Predictions = None,
    report: Annotated[
        Optional[str],
        typer.Option(
            metavar="FOLDER",
            parser=expand_home,
            help="Folder for a report to share: report.html with curves and images, report.json, predictions.csv.",
        ),
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure accuracy, calibration and confusions.

    Of a run, the exported file is measured, or before the export a temporary one; torch itself with --name torch.
    """
    from ... import evaluate as function

    show(function(model, data, plain(split), name, predictions, overwrite, skip_unreadable, report), json)
    if report is not None:
        open_page(json, report)
    next_for_model(json, model)


@app.command(epilog="Example: edgeclf robustness runs/first photos/ --corruption motion --corruption dark")
@with_options(RobustnessOptions)
def robustness(
    model: Model,
    data: Data,
    options: RobustnessOptions,
    split: OfSplit = TEST,
    name: Name = None,
    skip_unreadable: SkipUnreadable = False,
    json: Json = False,
) -> None:
    """Measure accuracy on noisy, blurred and dark images, and more.

    Each photograph is corrupted before preprocessing, in five severities, the same every time.
    """
    from ... import robustness as function

    show(function(model, data, plain(split), name, skip_unreadable, options), json)
    next_for_model(json, model)


@app.command(epilog="Example: edgeclf compare runs/first runs/second photos/")
def compare(
    a: Annotated[str, typer.Argument(metavar="A", parser=expand_home, help="A run, an ONNX file or a bundle.")],
    b: Annotated[str, typer.Argument(metavar="B", parser=expand_home, help="Another one, or the same.")],
    data: Data,
    split: OfSplit = TEST,
    name_a: Annotated[Optional[str], typer.Option("--name-a", help="A model of A, such as fp32 or int8-cpu.")] = None,
    name_b: Annotated[Optional[str], typer.Option("--name-b", help="A model of B.")] = None,
    skip_unreadable: SkipUnreadable = False,
    skip_timing: Annotated[bool, typer.Option("--skip-timing", help="Do not measure latency.")] = False,
    json: Json = False,
) -> None:
    """Test on the same images which of two models is better.

    Reports the difference with its 95 % interval, what each gets right that the other does not, size and latency.
    """
    from ... import compare as function

    show(function(a, b, data, plain(split), name_a, name_b, skip_unreadable, skip_timing), json)
    next_for_model(json, b)


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
    from ...errors import ImageError
    from ...evaluation.open_model import open_model
    from ...evaluation.predict import each_prediction

    code = 0
    with open_model(model, name, top_k, threshold) as opened:
        for answer in each_prediction(opened.classifier, images, predictions, overwrite):
            if isinstance(answer, ImageError):
                # A file name may contain line breaks.
                show_message(printable(f"error: {answer}"))
                code = answer.exit_code
            else:
                show(answer, json)
    next_for_model(json, model)
    raise typer.Exit(code)


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
    from ... import read_run
    from ...deployment.formats.export import FormatsError, export_formats

    if options.formats or options.golden:
        try:
            show(export_formats(run, options, output, overwrite), json)
        except FormatsError as failed:
            show(failed.report, json)
            raise
    else:
        data = read_run(run).dataset(options.data) if options.data else None
        show(function(run, output, overwrite, data), json)
    next_step(json, "edgeclf quantize", run)
