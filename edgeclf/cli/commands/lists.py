"""The command list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ...options import ListOptions
from ..app import Json, app, next_step, show
from ..typer_options import choice, plain, with_options

if TYPE_CHECKING:
    Listed = str
else:
    Listed = choice("Listed", ("backbones", "targets", "flavors", "datasets"))


@app.command("list", epilog="Example: edgeclf list backbones 'efficientnet*'")
@with_options(ListOptions)
def show_list(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    options: ListOptions,
    pattern: Annotated[str, typer.Argument(help="Part of the name, or a pattern with * and ?.")] = "*",
    json: Json = False,
) -> None:
    """List backbones, targets, flavors or named data sets."""
    from ..lists import NEXT, list_names

    kind = plain(what)
    if options.stages or options.latency:
        from ...training.stages import list_stages

        if kind != "backbones":
            raise typer.BadParameter("--stages is for backbones: edgeclf list backbones NAME --stages")
        show(list_stages(pattern, latency=options.latency), json)
        next_step(json, *NEXT[kind], pattern, "--finetune", "gradual")
        return
    report = list_names(kind, pattern)
    show(report, json)
    next_step(json, *NEXT[kind], report.rows[0]["name"])
