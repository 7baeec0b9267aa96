"""The application that the subcommands belong to, their common arguments, and how they show a result.

Results go to stdout, as text or, with --json, as JSON; progress and messages go to stderr.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from edgeclf_runtime import __version__
from edgeclf_runtime.text.terminal import printable, printable_json, show_message

from ..display import progress
from .exits import Commands
from .typer_options import expand_home

if TYPE_CHECKING:
    from ..deployment.serving.serve import Listening
    from ..display.report import Report

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
        help="Class folders, train/val/test folders, a .csv (path,label[,split,group]), or a name of edgeclf list datasets.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", parser=expand_home, help="A run, an ONNX file or a bundle.")]
RunFolder = Annotated[
    str, typer.Argument(metavar="RUN", parser=expand_home, help="A folder made by edgeclf train or import.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier output of edgeclf.")]


def show(report: Report | Listening, json: bool) -> None:
    print(printable_json(report.to_json()) if json else printable(report, "\n"), flush=True)


def next_step(json: bool, command: str, *arguments: str) -> None:
    """Suggest the command that usually follows."""
    if not json:
        show_message(printable(f"next: {command} {shlex.join(arguments)}"))


def below_the_error(context: typer.Context, suggest: Callable[[], None]) -> None:
    """Call a function once the error with which the command is about to end has been shown."""
    context.find_root().call_on_close(suggest)


def open_page(json: bool, folder: str) -> None:
    """Say where the page of results is that a command has written."""
    if not json:
        show_message(printable(f"open in a browser: {os.path.join(folder, 'report.html')}"))


def next_for_model(json: bool, model: str, data: str = "") -> None:
    """Suggest the next step after a model was measured: of a run, of one of its files, of a bundle, or of another file.

    data: the images that were used, which the next step needs too if the run's have moved.
    """
    run = model if is_run(model) else os.path.dirname(model)
    quantized = os.path.isfile(os.path.join(run, "quantization.json"))
    if is_run(run):
        more = ["--data", data] if data and _has_moved(run) else []
        if quantized:
            next_step(json, "edgeclf bundle", run, "--output", bundle_of(run), *more)
        else:
            next_step(json, "edgeclf quantize", run, *more)
    elif os.path.isdir(model):
        next_on_device(json, model)
    else:
        next_step(json, "edgeclf predict", model, "photos/")


def is_run(path: str) -> bool:
    from ..training.runs import RUN_FILE

    return os.path.isfile(os.path.join(path, RUN_FILE))


def _has_moved(run: str) -> bool:
    """Return whether the folder of a run's images is gone."""
    from ..training.runs import read_run

    data = read_run(run).facts.get("data") or {}
    return "root" in data and not os.path.exists(data["root"])


def next_on_device(json: bool, bundle: str, command: str = "doctor") -> None:
    """Suggest copying a bundle to a device, and a command there; doctor finds out what is missing."""
    name = os.path.basename(os.path.abspath(bundle))
    next_step(json, "scp -r", bundle, "DEVICE:")
    # The device's shell parses the line again.
    next_step(json, "ssh", "DEVICE", shlex.join(("python3", name, command)))


def bundle_of(run: str) -> str:
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
