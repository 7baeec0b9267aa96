"""Commands about images: check, audit and augment."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from typing import Annotated

import typer

from ...options import AuditOptions, AugmentOptions, CheckOptions
from ..app import Data, Json, Overwrite, app, next_step, show
from ..typer_options import expand_home, with_options


@app.command(epilog="Example: edgeclf check photos/")
@with_options(CheckOptions)
def check(data: Data, options: CheckOptions, json: Json = False) -> None:
    """Find problems in a data set.

    Unreadable files, files left out, empty classes, duplicates, leaks between splits, imbalance, exposure, size.
    Exit code 1 if training would stop.
    """
    from ... import check as function

    report = function(data, options)
    show(report, json)
    if all(finding.kind == "unreadable" for finding in report.errors):
        skipped = replace(options, skip_unreadable=options.skip_unreadable or bool(report.errors))
        next_step(json, "edgeclf train", data, *_given(skipped), "--output", "runs/first")
    else:
        next_step(json, "correct the errors above, then: edgeclf check", data, *_given(options))
    if report.errors:
        raise typer.Exit(1)


def _given(options: CheckOptions) -> list[str]:
    """Return the options that are not the usual ones, as a command line has them; train has them all."""
    changed = {one.name: getattr(options, one.name) for one in fields(options)}
    changed = {name: value for name, value in changed.items() if value != getattr(CheckOptions(), name)}
    return [
        word
        for name, value in changed.items()
        for word in (f"--{name.replace('_', '-')}", *([] if value is True else [str(value)]))
    ]


@app.command(epilog="Example: edgeclf audit photos/ --output audit/")
@with_options(AuditOptions)
def audit(
    data: Data,
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder of the audit; it must not exist yet.")],
    options: AuditOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find wrong labels and outliers by comparing images.

    Also near-duplicates with several labels, and labels that are mistaken for others.  The folder has audit.html, audit.json, and exclude.csv, which train takes with --exclude.
    """
    from ... import audit as function

    report = function(data, output, options, overwrite)
    show(report, json)
    excluded = ("--exclude", os.path.join(output, "exclude.csv")) if report.excluded else ()
    next_step(json, "edgeclf train", data, *excluded, "--output", "runs/first")


@app.command(epilog="Example: edgeclf augment photos/ --output augmented.png --augment inspection --rotate 10")
@with_options(AugmentOptions)
def augment(
    data: Data,
    output: Annotated[str, typer.Option(metavar="PAGE.png", parser=expand_home, help="The picture.")],
    options: AugmentOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw training images as augmentation changes them.

    Each row is an image as the model sees it, and views of it as train --finetune full changes it.
    """
    from ... import augment as function

    show(function(data, output, options, overwrite), json)
    given = [word for name in options.changed for word in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    next_step(json, "edgeclf train", data, "--output", "runs/first", "--finetune", "full", *given)
