"""Commands that lead to the device or to a web server: bundle, build, serve, make and demo."""

from __future__ import annotations

from typing import Annotated

import typer

from ...options import BuildOptions, BundleOptions, DemoOptions, MakeOptions, ServeOptions
from ..app import Data, Json, Overwrite, RunFolder, app, below_the_error, next_on_device, next_step, show
from ..typer_options import Grouped, expand_home, with_options


@app.command(epilog="Example: edgeclf bundle runs/first --output solar.edge")
@with_options(BundleOptions)
def bundle(
    run: RunFolder,
    output: Annotated[
        str, typer.Option(metavar="NAME.edge", parser=expand_home, help="Folder of the bundle; it must not exist yet.")
    ],
    options: BundleOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Pack a self-contained folder for the device.

    It holds the models, the runtime, and golden images that verify the results on the device.
    """
    from ... import bundle as function

    show(function(run, output, options=options, overwrite=overwrite), json)
    next_step(json, "python3", output, "selftest")
    next_on_device(json, output)


@app.command(epilog="Example: edgeclf build solar.edge")
@with_options(BuildOptions)
def build(
    context: typer.Context,
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", parser=expand_home, help="A folder made by edgeclf bundle.")
    ],
    options: BuildOptions,
    json: Json = False,
) -> None:
    """Build TensorRT engines for this machine's GPU.

    Engines for a Jetson are built on it: python3 NAME.edge build
    """
    from ... import build as function
    from ...errors import BackendError

    try:
        report = function(bundle, options=options)
    except BackendError:
        if options.target is None:  # else the error has the commands for that device
            below_the_error(context, lambda: next_on_device(json, bundle, "build"))
        raise
    show(report, json)
    if not report.engines:
        next_step(json, "python3", bundle, "doctor")
        next_on_device(json, bundle, "build")
        raise typer.Exit(1)
    next_step(json, "python3", bundle, "bench")


@app.command(epilog="Example: edgeclf serve solar.edge")
@with_options(ServeOptions)
def serve(
    bundles: Annotated[
        list[str],
        typer.Argument(metavar="BUNDLE", parser=expand_home, help="Folders made by edgeclf bundle, or NAME=FOLDER."),
    ],
    options: ServeOptions,
    json: Json = False,
) -> None:
    """Serve bundles over HTTP, until Ctrl-C.

    POST an image to /classify, or tensors of the Open Inference Protocol to /v2; / is a page to try it with.  A bundle
    that is replaced on disk is replaced here.
    """
    from ...deployment.serving.serve import listening

    with listening(bundles, options) as server:
        show(server, json)
        next_step(json, "curl", "-F", "image=@photo.jpg", f"{server.address}/classify")
        server.wait()


@app.command(cls=Grouped, epilog="Example: edgeclf make photos/ --output pets.edge --target jetson-orin")
@with_options(MakeOptions, config=True)
def make(
    data: Data,
    output: Annotated[
        str, typer.Option(metavar="NAME.edge", parser=expand_home, help="Folder of the bundle; its run is beside it.")
    ],
    options: MakeOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a bundle from labeled images.

    Checks, trains, exports, quantizes, evaluates and bundles.  The run is NAME.run.  The same command again resumes where
    it stopped; it refuses other data or options, and with --overwrite makes again what depends on them.
    """
    from ... import make as function

    show(function(data, output, options=options, overwrite=overwrite), json)
    next_step(json, "python3", output, "selftest")
    next_on_device(json, output)


@app.command(epilog="Example: edgeclf demo --output demo")
@with_options(DemoOptions)
def demo(
    *,
    output: Annotated[str, typer.Option(parser=expand_home, help="Folder for the results.")] = "edgeclf-demo",
    options: DemoOptions,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Run every step on real solar cells, in minutes.

    Trains, quantizes, bundles, and classifies a video of cells not seen in training.
    """
    from ... import demo as function

    show(function(output, options=options, overwrite=overwrite), json)
    next_step(json, "edgeclf make", "photos/", "--output", "pets.edge")
