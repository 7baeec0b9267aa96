"""Commands that measure and use a model: evaluate, predict and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from edgeclf_runtime.text.terminal import printable, show_message

from ...options import EVALUATED, SKIP_UNREADABLE
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
from ..typer_options import choice, expand_home, plain

if TYPE_CHECKING:
    Split = str
else:
    Split = choice("Split", EVALUATED)
TEST = Split("test")


@app.command(epilog="Example: edgeclf evaluate runs/first photos/ --split test")
def evaluate(
    model: Model,
    data: Data,
    split: Annotated[
        Split, typer.Option(help="Images of DATA to use; all: every one that a run was not trained on.")
    ] = TEST,
    name: Name = None,
    predictions: Predictions = None,
    report: Annotated[
        Optional[str],
        typer.Option(
            metavar="FOLDER",
            parser=expand_home,
            help="Make a folder to send on: report.html with curves and images, report.json, predictions.csv.",
        ),
    ] = None,
    skip_unreadable: Annotated[bool, typer.Option("--skip-unreadable", help=SKIP_UNREADABLE)] = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure accuracy, macro F1 and confusions on labeled images.

    Of a run, the exported file is measured, and torch before the export or with --name torch.
    """
    from ... import evaluate as function

    show(function(model, data, plain(split), name, predictions, overwrite, skip_unreadable, report), json)
    if report is not None:
        open_page(json, report)
    next_for_model(json, model)


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
    from ... import export as function

    show(function(run, output, overwrite), json)
    next_step(json, "edgeclf quantize", run)
