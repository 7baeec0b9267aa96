"""Commands that make smaller and faster models: calibrate and quantize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ...options import CalibrateOptions, QuantizeOptions
from ..app import Json, Overwrite, RunFolder, app, below_the_error, bundle_of, is_run, next_step, show
from ..typer_options import expand_home, with_options


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
    from ... import calibrate as function

    show(function(source, output, options=options, overwrite=overwrite), json)
    run = options.model or (source if is_run(source) else "RUN")
    more = ["--data", options.data] if options.data else []
    next_step(json, "edgeclf quantize", run, "--calibration", output, *more)


@app.command(epilog="Example: edgeclf quantize runs/first --calibration calibration/solar-cells")
@with_options(QuantizeOptions)
def quantize(
    context: typer.Context,
    run: RunFolder,
    options: QuantizeOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INT8 and FP16 files, each checked against FP32.

    If a file loses too much accuracy, its most sensitive layers go back to float; if that is not enough, the file is
    left out and the others are written; --finetune-int8 adapts such a file's weights to INT8.  The exit code is 3 if no
    file passed, or one that --flavor or --target asks for did not.  Files of earlier calls stay.  quantization.html in the run shows what
    was tried; quantization.json is for machines.
    """
    from ... import quantize as function
    from ...quantization.report import FlavorError

    try:
        show(function(run, options=options, overwrite=overwrite), json)
    except FlavorError as failed:
        show(failed.report, json)
        names, passed = failed.names, bool(failed.report.files)
        below_the_error(context, lambda: _next_after_failure(json, run, options, names, passed))
        raise
    _next_bundle(json, run, options)


def _next_after_failure(json: bool, run: str, options: QuantizeOptions, names: Sequence[str], passed: bool) -> None:
    """Suggest what may make the flavors pass, and to go on with the files that passed, if there are any."""
    again = [run, *(word for name in names for word in ("--flavor", name))]
    again += ["--data", options.data] if options.data else []
    if not options.finetune_int8 and all(name.startswith("int8") for name in names):
        next_step(json, "edgeclf quantize", *again, "--finetune-int8")
    elif options.calibration is None:
        next_step(json, "edgeclf quantize", *again, "--size", str(2 * options.size))
    if passed:
        _next_bundle(json, run, options)


def _next_bundle(json: bool, run: str, options: QuantizeOptions) -> None:
    more = [word for target in options.targets for word in ("--target", target)]
    more += ["--data", options.data] if options.data else []
    next_step(json, "edgeclf bundle", run, "--output", bundle_of(run), *more)
