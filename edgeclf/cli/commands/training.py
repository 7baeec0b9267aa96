"""Commands that make a run: train and import."""

from __future__ import annotations

from typing import Annotated

import typer

from ...options import ImportOptions, TrainOptions
from ..app import Data, Json, Overwrite, app, next_step, open_page, show
from ..typer_options import Grouped, expand_home, with_options

Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted training; the result is the same.")]


@app.command(cls=Grouped, epilog="Example: edgeclf train photos/ --output runs/first --finetune head")
@with_options(TrainOptions, config=True)
def train(
    data: Data,
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder of the run; it must not exist yet.")],
    options: TrainOptions,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Fine-tune a backbone on labeled images.

    The run keeps weights, split, options and metrics; export, quantize and bundle start from it.
    """
    from ... import train as function
    from ...training.machine.distributed import leads

    report = function(data, output, options, overwrite, resume=resume)
    if not leads():
        return
    show(report, json)
    open_page(json, output)
    left_out = ("--skip-unreadable",) if report.unreadable else ()
    next_step(json, "edgeclf evaluate", output, data, *left_out)
    next_step(json, "edgeclf quantize", output)


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
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a run of a classifier that another program trained.

    The model is compared with the original.  With --data, accuracy is measured too; exit code 3 if another color order or
    normalization is evidently right.
    """
    from ... import import_model as function

    show(function(model, output, options, overwrite), json)
    if options.data:
        next_step(json, "edgeclf quantize", output)
    else:
        next_step(json, "edgeclf evaluate", output, "DATA", "--split", "all")
