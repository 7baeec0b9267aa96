"""Commands about images: check."""

from __future__ import annotations

import typer

from ...options import CheckOptions
from ..app import Data, Json, app, next_step, show
from ..typer_options import with_options


@app.command(epilog="Example: edgeclf check photos/")
@with_options(CheckOptions)
def check(data: Data, options: CheckOptions, json: Json = False) -> None:
    """Find problems in a data set.

    Unreadable files, files left out, empty classes, duplicates, leaks between splits, imbalance, exposure, size.
    Exit code 1 if training would stop.
    """
    from ... import check as function

    report = function(data, options.split, options.image_size, options.resize, options.skip_unreadable)
    show(report, json)
    if report.errors:
        raise typer.Exit(1)
    next_step(json, "edgeclf train", data, "--output", "runs/first")
