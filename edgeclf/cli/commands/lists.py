"""The command list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..app import Json, app, next_step, show
from ..typer_options import choice, plain

if TYPE_CHECKING:
    Listed = str
else:
    Listed = choice("Listed", ("backbones", "targets", "flavors", "datasets"))


@app.command("list", epilog="Example: edgeclf list backbones 'efficientnet*'")
def show_list(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    pattern: Annotated[str, typer.Argument(help="Part of the name, or a pattern with * and ?.")] = "*",
    stages: Annotated[
        bool, typer.Option("--stages", help="Show the stages of one backbone, and which --finetune trains them.")
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Also measure each stage on this machine's CPU, in torch.")
    ] = False,
    json: Json = False,
) -> None:
    """List backbones, targets, flavors or named data sets."""
    from ..lists import NEXT, list_names

    kind = plain(what)
    if stages or latency:
        from ...training.stages import list_stages

        if kind != "backbones":
            raise typer.BadParameter("--stages is for backbones: edgeclf list backbones NAME --stages")
        show(list_stages(pattern, latency=latency), json)
        next_step(json, *NEXT[kind], pattern, "--finetune", "gradual")
        return
    report = list_names(kind, pattern)
    show(report, json)
    next_step(json, *NEXT[kind], report.rows[0]["name"])
