"""Options of bundles, of engines, and of ``make``, which makes a bundle from images in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from edgeclf_runtime.trt.engine_spec import OPTIONS, EngineOptions

from ..errors import OptionError
from ..targets import TARGETS
from .declaration import MOVED, SEED, SEEDS, SKIP_UNREADABLE, T, check_fields, option
from .quantization import QuantizeOptions
from .training import TrainOptions

PRECISIONS = ("best", "fp32", "fp16", "int8")
"""Precisions of an engine, as a bundle's own ``build`` has them."""


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """Options of bundle()."""

    targets: tuple[str, ...] = option(
        tuple(TARGETS), "A device to support; may be repeated.", name="--target", shown="all", choices=tuple(TARGETS)
    )
    golden: int = 16
    """Real validation images that verify a device's results; the second half are tinted."""
    precision: float | str | Mapping[str, float] | tuple[str, ...] | None = option(
        (),
        'Label low-confidence images "unknown" so that the given share of the remaining predictions is correct; '
        "LABEL=P: of those with that label. May be repeated.",
        metavar="[LABEL=]P",
        repeated=True,
    )
    coverage: float | None = option(
        None, 'Label the least confident images "unknown" so that the given share of images keeps a label.'
    )
    keep: float | None = option(
        None,
        'Label images "unknown" that are unlike the training images, but keep the given share of known images, such as 0.95.',
    )
    label_sets: float | None = option(
        None,
        "Give each image a set of labels that has the right one for the given share of images, such as 0.9.",
    )
    examples: bool = option(
        False,
        "Put small training images into the bundle, at most 512 KB, so that the live page can show those nearest to an unknown "
        "image. Without it, no training image leaves this machine.",
    )
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        if not self.targets:
            raise OptionError(f"no target was given; choose from {', '.join(TARGETS)}")
        check_fields(self)
        if not 1 <= self.golden <= 64:
            raise OptionError(f"golden is {self.golden}; 1 to 64 images were expected")
        object.__setattr__(self, "precision", _as_texts(self.precision))
        for share in self.label_precision.values():
            check_shares(share, None)
        check_shares(self.common_precision, self.coverage)
        for name, value in (("keep", self.keep), ("label-sets", self.label_sets)):
            if value is not None and not 0 < value < 1:
                raise OptionError(f"{name} is {value}; more than 0 and less than 1 was expected, such as 0.95")

    @property
    def common_precision(self) -> float | None:
        """The precision for all labels together."""
        return self._precisions.get(None)

    @property
    def label_precision(self) -> dict[str, float]:
        """The precision by label, of the labels that have their own."""
        return {label: share for label, share in self._precisions.items() if label is not None}

    @property
    def _precisions(self) -> dict[str | None, float]:
        found: dict[str | None, float] = {}
        for text in _as_texts(self.precision):
            label, equals, share = text.rpartition("=")
            try:
                found[label if equals else None] = float(share)
            except ValueError:
                raise OptionError(
                    f"precision is {text!r}; a share such as 0.99 was expected, or one label's, such as defective=0.99"
                ) from None
        return found


def _as_texts(precision: float | str | Mapping[str, float] | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return a precision as the command line gives it: 0.9, or defective=0.99 for one label."""
    if precision is None:
        return ()
    if isinstance(precision, Mapping):
        return tuple(f"{label}={share}" for label, share in precision.items())
    return (str(precision),) if isinstance(precision, (int, float, str)) else tuple(map(str, precision))


@dataclass(frozen=True, kw_only=True)
class MakeOptions(BundleOptions, QuantizeOptions, TrainOptions):
    """Options of make(): those of each step from images to bundle."""

    # The targets decide.
    flavors: tuple[str, ...] = ()
    baseline: bool = False
    # The data is given to train.
    data: str | None = None

    def __post_init__(self) -> None:
        for kind in (TrainOptions, QuantizeOptions, BundleOptions):
            self.part(kind)

    def part(self, kind: type[T]) -> T:
        """Return one step's own options, TrainOptions, QuantizeOptions or BundleOptions."""
        return kind(**{one.name: getattr(self, one.name) for one in fields(kind)})  # type: ignore[arg-type]


def check_shares(precision: float | None, coverage: float | None) -> None:
    """Raise OptionError if precision and coverage are both given, or are not in (0, 1]."""
    if precision is not None and coverage is not None:
        raise OptionError("precision and coverage were both given, but there is one threshold; give one of them")
    for name, value in (("precision", precision), ("coverage", coverage)):
        if value is not None and not 0 < value <= 1:
            raise OptionError(f"{name} is {value}; more than 0 and at most 1 was expected")


def with_engine_options(kind: type[T]) -> type[T]:
    """Add the engine options of a workstation to a class, before it is made a dataclass; the runtime declares them."""
    for name, one in OPTIONS.items():
        if one.host:
            kind.__annotations__[name] = EngineOptions.__annotations__[name]
            help = f"{one.help[0].upper()}{one.help[1:]}."
            default = EngineOptions._field_defaults[name]
            setattr(kind, name, option(default, help, shown=one.shown, metavar=one.metavar))
    return kind


@dataclass(frozen=True, kw_only=True)
@with_engine_options
class BuildOptions:
    """Options of build(): these, and those of the engine, which ``edgeclf build --help`` lists, as in BuildOptions(level=5)."""

    target: str | None = option(None, "The device.", shown="this machine", choices=tuple(TARGETS))
    model: str | None = option(None, "Build only this model of the bundle.")
    precision: str = option(
        "best", "best: build all, keep the fastest that passes the golden images.", choices=PRECISIONS
    )

    if TYPE_CHECKING:

        def __init__(
            self, *, target: str | None = None, model: str | None = None, precision: str = "best", **engine: object
        ) -> None: ...

    def __post_init__(self) -> None:
        check_fields(self)
        self.engine.check()

    @property
    def engine(self) -> EngineOptions:
        """The options of each engine: those fields that have the name of one."""
        return EngineOptions(**{name: getattr(self, name) for name, one in OPTIONS.items() if one.host})


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of demo()."""

    seed: int = option(0, SEED, between=SEEDS)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of serve()."""

    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 answers the network, without a password.")
    port: int = option(8000, "Port to listen on; 0 takes a free one.", between=(0, 65535))
    at_once: int | None = option(
        None, "Number of images to classify at the same time.", between=(1, 256), shown="one for each processor"
    )
    queue: int = option(64, "Number of requests that may wait; others get status 503.", between=(1, 10_000))
    max_mb: int = option(20, "Largest upload, in megabytes.", between=(1, 256))
    top_k: int = option(5, "Number of labels to list.", between=(1, 1_000_000))

    def __post_init__(self) -> None:
        check_fields(self)
