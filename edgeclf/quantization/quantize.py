"""Quantizes a run's FP32 file: one smaller file for each family of backends, each compared with FP32.

The distributions of the activations are collected once, over a calibration set taken from the training images.  Every
flavor is written from them: Q/DQ files (``graph/int8/qdq.py``), FP16 (``graph/fp16.py``), and TensorRT's calibration cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgeclf_runtime.files.outputs import claim_output

from ..data.folder_update import updated_folder
from ..display.progress import say
from ..errors import EdgeclfError
from ..evaluation.export import exported
from ..evaluation.logit_store import LOGIT_FILE, read_logits
from ..evaluation.metadata import model_metadata
from ..graph.features import with_features
from ..graph.int8.rounding import Rounding, collect_moments
from ..graph.onnx_file import save_model
from ..graph.prepare import prepare
from ..options import QuantizeOptions, merged
from ..targets import model_file, opset_of
from ..training.runs import Run, read_run
from .earlier import bases_of, claim_names, earlier_report
from .finetune.torch_graph import refuse_unknown
from .finetune.tune import Finetuner
from .histogram_store import HISTOGRAM_FILE, HistogramStore
from .inputs import Inputs, histogram_key
from .outputs import write_outputs
from .report import FlavorError, QuantizeReport
from .search import Search

_NOTHING = "nothing to fine-tune: every INT8 file passes without layers back in float"


def quantize(
    run: str | Path | Run, options: QuantizeOptions | None = None, overwrite: bool = False, **keywords: object
) -> QuantizeReport:
    """Write a run's model.NAME.onnx for each flavor, calibration.cache, quantization.json and quantization.html.

    A Q/DQ file whose accuracy drops by more than ``max_drop`` on the evaluation images gets its most sensitive layers
    back in float, as few as make it pass.  If that is not enough, the flavor is left out, and the others are written.
    Files of an earlier call stay, and are not made again without ``overwrite``; the report describes them too.  A run that was
    not exported is exported first.

    With ``finetune_int8``, the weights of a Q/DQ file that needs layers in float, or does not pass, are fine-tuned to its grid on
    training images that are not evaluation images, and kept if it then passes with fewer layers in float.  Other files stay, and
    so does FP32.  Raises ModelError for a model with operators that cannot be fine-tuned.

    Raises FlavorError, a GateError with exit code 3, if a flavor that ``flavors`` or ``targets`` asks for did not pass, or if
    none did; everything that passed is written before.  Raises DataError if the images that it needs are gone (those of val, and
    of train if no calibration set is given), and for a calibration set whose files changed, ModelError
    for activations that are not finite, and OutputError if a file exists and ``overwrite`` is not given.
    """
    options = merged(QuantizeOptions, options, keywords)
    run = run if isinstance(run, Run) else read_run(run)
    # With a calibration set, the images that evaluate are enough.
    needs = ("val",) if options.calibration and not options.finetune_int8 else ("train", "val")
    dataset = run.dataset(options.data, needs, options.skip_unreadable, accept_new=bool(options.calibration))
    network = None if run.imported else run.network
    inputs = Inputs(options, dataset, run.split_rows, run.preprocessing, exported(run, dataset), network)
    earlier = earlier_report(inputs.source)
    names = claim_names(inputs.folder, options, earlier, overwrite)
    if earlier and not names:
        say(_NOTHING)
        return earlier

    key = histogram_key(inputs.source, inputs.calibration, inputs.preprocessing)
    store = HistogramStore(inputs.folder / HISTOGRAM_FILE, key)
    search = _prepare(inputs, store)
    try:
        found, failed = search.all(names, bases_of(inputs.folder, earlier, names, inputs.calibration.sha256))
    except (EdgeclfError, KeyboardInterrupt):
        store.keep(search.histograms)  # the next attempt, with other options, begins where this one failed
        raise

    # What comes out, all of it or nothing.
    with updated_folder(inputs.folder) as folder:
        for name, one in found.items():
            save_model(with_features(one.model), folder / model_file(name), model_metadata(run, name), opset_of(name))
        report = write_outputs(folder, inputs, search, found, failed, earlier)
        store.write(folder / HISTOGRAM_FILE, search.histograms)
        for name in found:  # another process may have quantized the run meanwhile
            claim_output(inputs.folder / model_file(name), overwrite)
    _say_warnings(report, failed)
    records = [one.findings.finetuning for one in found.values()] + [one.finetuning for one in failed.values()]
    if options.finetune_int8 and not any(records):
        say(_NOTHING)
    refused = tuple(name for name in failed if name in options.named or not report.files)
    if refused:
        raise FlavorError(report, refused, options.targets)
    return report


def _prepare(inputs: Inputs, store: HistogramStore) -> Search:
    """Collect what every flavor is made from: the graph, the histograms, and FP32's logits of the evaluation images."""
    graph = prepare(inputs.source)
    options = inputs.options
    if options.finetune_int8:
        refuse_unknown(graph)
        inputs.check_training()
    tuner = Finetuner(lambda: inputs.training, options.int8_epochs, options.seed) if options.finetune_int8 else None
    known = read_logits(inputs.folder / LOGIT_FILE, inputs.preprocessing)
    reference = known.outputs(inputs.source, "fp32", inputs.images, "evaluating fp32")
    return Search(
        graph=graph,
        histograms=store.recall(graph, inputs.batches),
        rounding=Rounding(graph, collect_moments(graph, inputs.batches)),
        images=inputs.images,
        reference=reference.logits,
        reference_features=reference.features,
        batches=inputs.batches,
        methods=options.methods,
        max_drop=options.max_drop,
        form=options.form,
        finetuner=tuner,
    )


def _say_warnings(report: QuantizeReport, failed: Iterable[str]) -> None:
    for warning in report.warnings:
        say(f"warning: {warning}")
    for name in failed:
        say(f"warning: no file of {name} was written: it did not pass the accuracy gate")
