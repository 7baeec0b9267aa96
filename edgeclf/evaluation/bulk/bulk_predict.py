"""Classifies millions of images into one file, in parts that are kept if the work is interrupted."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime import __version__
from edgeclf_runtime.bundle.open_bundle import MANIFEST
from edgeclf_runtime.files.outputs import claim_output
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ...display.progress import progress, say
from ...display.report import Bars, Report
from ...errors import OptionError
from ...options import BulkOptions, merged
from ..export import open_exported
from ..metadata import weights_sha256
from ..open_model import OpenModel
from .listing import listed
from .local import classify_here
from .output_file import check_output, write_output
from .ray_engine import check_engine, classify_on_ray
from .unfinished import Row, Unfinished

Engine = Callable[[Unfinished, Iterable[int], "int | None"], Iterator[int]]
_ENGINES: dict[str, Engine] = {"local": classify_here, "ray": classify_on_ray}


@dataclass(frozen=True)
class BulkReport(Report):
    """A file of predictions."""

    output: str
    images: int
    unreadable: int
    """Images that cannot be decoded; their rows have an error."""
    rejected: int
    """Images whose label is unknown."""
    labels: dict[str, int]
    """The number of images with each predicted label, the most frequent first."""
    resumed: int
    """Images that an earlier, interrupted call had classified."""
    engine: str
    images_per_s: float
    """Of those classified by this call, from the start of the processes."""

    def bars(self) -> Iterator[Bars]:
        """Yield the number of images with each label."""
        yield Bars("images", {label: float(count) for label, count in self.labels.items()}, "{:.0f}")

    def __str__(self) -> str:
        lines = [f"{self.output}: {self.images} images, {self.images_per_s:.1f} a second"]
        if self.unreadable:
            lines.append(f"{self.unreadable} cannot be decoded; the column error of their rows says why")
        if self.rejected:
            lines.append(f"{self.rejected} are unknown; the column reason of their rows says why")
        return printable("\n".join(lines), "\n")


def bulk_predict(
    model: str | Path,
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    options: BulkOptions | None = None,
    overwrite: bool = False,
    resume: bool = False,
    **keywords: object,
) -> BulkReport:
    """Classify all images of folders, CSV files and tar archives, and write a row for each to a .csv or .parquet file.

    data: one or several paths: a folder with all below it, a CSV file with a column path, a tar archive such as a shard of
    WebDataset, a pattern, an image.  Rows are in this order, and are the same for every engine and number of processes.
    resume: continue an interrupted call with the same arguments.

    An image that cannot be decoded has a row with an error.  Raises DataError for data without images and for an image that is
    given twice, OutputError if ``output`` exists, DependencyError if pyarrow or Ray is missing, and EdgeclfError if processes die
    again and again on the same images.
    """
    options = merged(BulkOptions, options, keywords)
    if options.predictions is not None:
        raise OptionError("--predictions and --output write the same rows: give --output")
    check_output(output)
    check_engine(options.engine)
    claim_output(output, overwrite)
    work = Unfinished.of(output)
    work.claim(resume, overwrite)
    _prepare(work, model, [data] if isinstance(data, str | Path) else data, options, resume, overwrite)
    with closing(work.locked()):
        with _kept(work, resume):
            resumed, rate = _classify(work, options)
            counts = _Counts()
            write_output(counts.counted(work.rows()), output, overwrite)
        images = work.facts["images"]
        work.discard()
    labels = dict(counts.labels.most_common())
    return BulkReport(
        str(output), images, counts.unreadable, counts.rejected, labels, resumed, options.engine, round(rate, 1)
    )


def _prepare(
    work: Unfinished,
    model: str | Path,
    data: Sequence[str | Path],
    options: BulkOptions,
    resume: bool,
    overwrite: bool,
) -> None:
    """Open the model once, so that an error in it is found before any process starts, and list the images."""
    with open_exported(model, options.name, 1, options.threshold) as opened:
        own = opened.file is not None and Path(model) in (opened.file, *opened.file.parents)
        temporary = None if own or opened.file is None else opened.file
        facts: JsonObject = {
            "model": os.path.abspath(model),
            "name": None if opened.file == Path(model) else opened.name,
            "model_sha256": _model_sha256(Path(model), opened),
            "threshold": options.threshold,
            "versions": {"edgeclf": __version__, "backend": opened.classifier.backend},
        }
        resumed = work.open(facts, listed([str(path) for path in data]), temporary, resume, overwrite)
    if resume and not resumed:
        say("there is nothing to resume: the work starts from the beginning")


def _model_sha256(model: Path, opened: OpenModel) -> str:
    """Return the hash of all that decides a model's results."""
    if (model / MANIFEST).is_file():
        return sha256_file(model / MANIFEST)
    weights = weights_sha256(opened.run) if opened.run is not None and opened.name in ("torch", "fp32") else None
    return weights or sha256_file(str(opened.file))


def _classify(work: Unfinished, options: BulkOptions) -> tuple[int, float]:
    """Classify the parts that are missing; return the number of images that were done, and the rate of the others."""
    done, total = set(work.done()), work.facts["images"]
    resumed = sum(map(work.size, done))
    if resumed:
        say(f"resuming {work.path}: {resumed} of {total} images are done")
    missing, start = [part for part in work.parts if part not in done], time.monotonic()
    with progress("classifying", total - resumed) as advance:
        for part in _ENGINES[options.engine](work, missing, options.workers) if missing else ():
            for _ in range(work.size(part)):
                advance()
    return resumed, (total - resumed) / max(1e-6, time.monotonic() - start)


@contextmanager
def _kept(work: Unfinished, resume: bool) -> Iterator[None]:
    """If the block fails, keep what another call can resume from, and say so; resume: whether this call was to resume."""
    try:
        yield
    except BaseException:
        if done := len(work.done()):
            say(
                f"{work.path} keeps {done} of {len(work.parts)} parts; the same command{'' if resume else ' with --resume'} "
                "continues it"
            )
        else:
            work.discard()
        raise


class _Counts:
    """Counts rows as they pass."""

    def __init__(self) -> None:
        self.unreadable = self.rejected = 0
        self.labels: Counter[str] = Counter()

    def counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows."""
        for row in rows:
            self.unreadable += bool(row.error)
            self.rejected += bool(row.reason)
            if not row.error:
                self.labels[row.predicted] += 1
            yield row
