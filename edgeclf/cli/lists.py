"""Lists of the names that options and DATA take: backbones, targets, flavors and data sets."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from edgeclf_runtime.files.schema import JsonObject

from ..display.report import Report
from ..errors import OptionError
from ..targets import FLAVORS, TARGETS, precision_of

NEXT = {
    "backbones": ("edgeclf train", "photos/", "--output", "runs/first", "--backbone"),
    "targets": ("edgeclf bundle", "runs/first", "--output", "NAME.edge", "--target"),
    "flavors": ("edgeclf quantize", "runs/first", "--flavor"),
    "datasets": ("edgeclf check",),
}
"""The command that takes such a name, up to the name."""
_COLUMNS, _INDENT = 80, 15
_WEIGHTS = {
    "packaged": "weights in the package {package}",
    "installable": "weights in the package {package}, which is not installed",
    "cached": "ImageNet weights: in the Hugging Face cache",
    "download": "",
    "url": "ImageNet weights: only at a web address, for --weights FILE",
    "none": "no ImageNet weights",
}
"""In words; most backbones need --download."""


@dataclass(frozen=True)
class ListReport(Report):
    """Names, each with its facts."""

    kind: str
    rows: tuple[JsonObject, ...]

    def to_dict(self) -> JsonObject:
        """The list as a JSON-compatible dict."""
        return {self.kind: self.rows}

    def __str__(self) -> str:
        return "\n".join(_TEXTS[self.kind](row) for row in self.rows)


def list_names(kind: str, pattern: str = "*") -> ListReport:
    """Return the backbones, targets, flavors or data sets whose names match; a pattern without * and ? is a part of the name.

    Raises OptionError if there are none.
    """
    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    rows = tuple(row for row in _ROWS[kind]() if fnmatchcase(row["name"], wanted))
    if not rows:
        raise OptionError(f"no name among the {kind} matches {pattern!r}; see them all with: edgeclf list {kind}")
    return ListReport(kind, rows)


def _backbones() -> list[JsonObject]:
    import timm

    from ..training.weights.sources import PACKAGED, source_of

    return [
        {
            "name": name,
            "weights": source_of(name),
            "package": PACKAGED[name].name if name in PACKAGED else None,
        }
        for name in timm.list_models()
    ]


def _targets() -> list[JsonObject]:
    return [
        {"name": one.name, "description": one.description, "machines": one.machines, "models": one.models}
        for one in TARGETS.values()
    ]


def _flavors() -> list[JsonObject]:
    return [
        {
            "name": name,
            "precision": precision_of(name),
            "backends": flavor.backends,
            "targets": [target.name for target in TARGETS.values() if name in target.models],
        }
        for name, flavor in FLAVORS.items()
    ]


def _datasets() -> list[JsonObject]:
    from ..data.public_sets import PUBLIC_SETS

    elpv = {"name": "elpv", "description": "solar cells, gray, 300 x 300, 2 labels", "images": 2624}
    return [
        {**elpv, "here": importlib.util.find_spec("elpv_dataset") is not None},
        *(
            {"name": one.name, "description": one.description, "images": one.count, "here": one.is_here()}
            for one in PUBLIC_SETS.values()
        ),
    ]


def _dataset_text(row: JsonObject) -> str:
    where = "here" if row["here"] else "not on this machine"
    return _entry(row["name"], f"{row['images']:,} images: {row['description']} ({where})")


def _backbone_text(row: JsonObject) -> str:
    note = _WEIGHTS[row["weights"]].format(**row)
    line = f"{row['name']}  ({note})" if note else str(row["name"])
    return line if len(line) <= _COLUMNS else "\n".join([row["name"], *_wrapped(f"({note})", 4)])


def _target_text(row: JsonObject) -> str:
    return _entry(row["name"], row["description"], ", ".join(row["models"]))


def _flavor_text(row: JsonObject) -> str:
    return _entry(row["name"], f"for {', '.join(row['backends'])}", ", ".join(row["targets"]))


def _entry(name: str, *facts: str) -> str:
    """Return a name, and facts about it below each other beside it."""
    lines = [line for fact in facts for line in _wrapped(fact, _INDENT)]
    return "\n".join([f"{name:<{_INDENT}}{lines[0][_INDENT:]}", *lines[1:]])


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(text, _COLUMNS, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


_ROWS: dict[str, Callable[[], list[JsonObject]]] = {
    "backbones": _backbones,
    "targets": _targets,
    "flavors": _flavors,
    "datasets": _datasets,
}
_TEXTS: dict[str, Callable[[JsonObject], str]] = {
    "backbones": _backbone_text,
    "targets": _target_text,
    "flavors": _flavor_text,
    "datasets": _dataset_text,
}
