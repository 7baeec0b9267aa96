"""The table of boards in the documentation, from the reports that boards wrote.

    python3 benchmarks/figures/boards.py board.json [FILE...]
    python3 benchmarks/figures/boards.py --write

A report comes from a board: ``python3 NAME.edge report --output board.json``.  Its rows are the fastest model of each precision
that passed the golden images there.  Files of published figures name their sources.  Without FILE the table has everything in
``benchmarks/reference/boards``, and ``--write`` puts it into ``docs/boards.md``, between its marks.

What a row is: *measured* on that board; measured on a *busy* machine, whose other programs kept over a quarter of its
processors busy; *emulated*, which proves answers and says nothing about speed; or *published* by others, under their conditions.

Exit codes: 0 done, 1 a file is not a report, 2 usage.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pages

from edgeclf_runtime.commands.report.report import FORMAT, MOST_BYTES, VERSION
from edgeclf_runtime.files.schema import (
    SchemaError,
    any_json,
    constant,
    flag,
    integer,
    list_of,
    mapping,
    nullable,
    number,
    parse_json,
    record,
    text,
)

ROOT = Path(__file__).parents[2]
REFERENCE, PAGE = ROOT / "benchmarks" / "reference" / "boards", ROOT / "docs" / "boards.md"
BEGIN, END = "<!-- boards: python3 benchmarks/figures/boards.py --write -->", "<!-- end of boards -->"
PUBLISHED_FORMAT = "edgeclf-published-figures"
BUSY_LOAD = 0.25
UNKNOWN = "unknown"

_NAME = text(most=200)
_FIGURE = nullable(number(0))


def _section(found: Any) -> Any:
    return record({"found": nullable(found), "error": nullable(text(most=1000)), "seconds": number(0)}, others=True)


_FACTS = ("board", "jetson_linux", "power_mode", "processor")
_MACHINE = record(
    {
        **{name: nullable(text(".*", "a text", 200)) for name in _FACTS},
        "machine": _NAME,
        "python": _NAME,
        "emulated": flag,
        "load": _FIGURE,
    },
    others=True,
)
_STAGES = mapping(_NAME, nullable(record({"p50": number(0), "p99": number(0)}, others=True)))
_SPEED = record(
    {
        "latency_ms": mapping(_NAME, _STAGES),
        "joules_per_frame": mapping(_NAME, _FIGURE),
        "throttling": mapping(
            _NAME, record({"windows": integer(0), "throttled": integer(0), "unknown": integer(0)}, others=True)
        ),
        "telemetry": record(
            {"after": record({"temperature_c": mapping(_NAME, nullable(number()))}, others=True)}, others=True
        ),
    },
    others=True,
)
_LIMITS = ("largest", "mean", "divergence")
_DIFFERENCES = ("largest_difference", "mean_difference", "divergence")
_TEST = record(
    {
        "passed": flag,
        "images": integer(1),
        "device": _NAME,
        "tolerance": record({name: number(0) for name in _LIMITS}),
        **dict.fromkeys(_DIFFERENCES, _FIGURE),
    },
    others=True,
)
_SELFTEST = record(
    {
        "model": _NAME,
        "backend": _NAME,
        "found": nullable(_TEST),
        "error": nullable(text(most=1000)),
        "seconds": number(0),
    }
)
_BUNDLE = record(
    {"network": nullable(_NAME), "size": list_of(integer(1), 2, 2), "models": mapping(_NAME, _NAME)}, others=True
)
_CARD = record({"power_w": _FIGURE, "temperature_c": _FIGURE, "throttled": nullable(list_of(_NAME))}, others=True)
REPORT = record(
    {
        "format": constant(FORMAT),
        "version": constant(VERSION),
        "date": text(r"\d{4}-\d\d-\d\d", "a date"),
        "bundle": _BUNDLE,
        "machine": _section(_MACHINE),
        "versions": mapping(_NAME, _section(_NAME)),
        "gpu": nullable(_section(record({"gpu": _NAME}, others=True))),
        "selftests": list_of(_SELFTEST),
        "speed": mapping(
            _NAME,
            record(
                {
                    "found": nullable(_SPEED),
                    "error": nullable(text(most=1000)),
                    "gpu": nullable(_CARD),
                    "seconds": number(0),
                }
            ),
        ),
    },
    others=True,
)
PUBLISHED = record(
    {
        "format": constant(PUBLISHED_FORMAT),
        "version": constant(1),
        "rows": list_of(
            record(
                {
                    **dict.fromkeys(("board", "system", "network", "model", "source"), _NAME),
                    "inference_ms": number(above=0),
                    "note": any_json,
                },
                optional=("note",),
            )
        ),
    }
)


class NotAReportError(Exception):
    """A file that no board wrote."""


@dataclass(frozen=True)
class Row:
    """A row of the table; the titles are those of the columns."""

    board: str
    kind: str
    network: str
    model: str
    inference: str = ""
    total: str = ""
    golden: str = ""
    conditions: str = ""
    system: str = ""


TITLES = (
    *("board", "figures are", "network", "model, backend", "inference, p50 ms", "frame to label, p50, p99 ms"),
    *("golden images", "energy, temperature, throttling", "system"),
)


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--write", action="store_true", help="update docs/boards.md from the reference files")
    arguments = parser.parse_args()
    if arguments.write and arguments.files:
        parser.error(f"copy the files into {REFERENCE.relative_to(ROOT)}, then pass --write without them")
    try:
        made = table(arguments.files or reference_files())
    except NotAReportError as error:
        raise SystemExit(f"error: {error}") from None
    if not arguments.write:
        print(made)
        return
    pages.write_table(PAGE, BEGIN, END, made)
    print(f"{PAGE.relative_to(ROOT)} has the table of {len(reference_files())} files")


def reference_files() -> list[Path]:
    """Return the files of the documentation's table: what boards reported, then what others published."""
    return sorted(REFERENCE.glob("*.json"), key=lambda path: (path.stem == "published", path.name))


def table(paths: Iterable[Path]) -> str:
    """Return the Markdown table of some files; NotAReportError names the first that is neither kind."""
    rows = [row for path in paths for row in read_rows(path)]
    cells = [[getattr(row, field.name) for field in fields(Row)] for row in rows]
    return pages.markdown(list(TITLES), cells)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of one file."""
    report = read_file(path)
    return list(_published_rows(report) if report["format"] == PUBLISHED_FORMAT else _rows(path, report))


def read_file(path: Path) -> Mapping[str, Any]:
    """Return what is in a report or a file of published figures, checked field by field."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise SchemaError(f"it has more than {MOST_BYTES >> 20} MB")
        found = parse_json(data)
        published = isinstance(found, dict) and found.get("format") == PUBLISHED_FORMAT
        (PUBLISHED if published else REPORT)(found, "")
    except (OSError, SchemaError) as error:
        raise NotAReportError(
            f"{path} is not a board's report: {error}; a file that python3 NAME.edge report wrote was expected"
        ) from None
    return found


def _published_rows(report: Mapping[str, Any]) -> Iterator[Row]:
    for row in report["rows"]:
        source = row["source"]
        link = f"[published]({source})" if source.startswith("https://") else f"published: {_shown(source)}"
        note = f", {_shown(str(row['note']))}" if row.get("note") else ""
        names = {name: _shown(row[name]) for name in ("board", "network", "model", "system")}
        yield Row(**names, kind=link + note, inference=f"{row['inference_ms']:g}")


def _rows(path: Path, report: Mapping[str, Any]) -> Iterator[Row]:
    machine = report["machine"]["found"]
    if machine is None:
        raise NotAReportError(f"{path} does not say what machine it is from: {report['machine']['error']}")
    ran = [test for test in report["selftests"] if test["found"]]
    verdict = f"{sum(test['found']['passed'] for test in ran)} of {len(ran)} pass"
    best: dict[str, tuple[float, Row]] = {}
    for test in ran:
        speed = report["speed"].get(test["backend"], {}).get("found")
        stages = speed and speed["latency_ms"].get(test["model"])
        if not (test["found"]["passed"] and stages):
            continue
        card = report["speed"][test["backend"]]["gpu"] if test["found"]["device"] != "cpu" else None
        row = Row(
            board=_shown(_board(report, machine, test["found"]["device"])),
            system=_shown(_system(report, machine, test["backend"])),
            network=_shown(_network(report["bundle"])),
            model=_shown(f"{test['model']}, {test['backend']}"),
            inference=_ms(stages["inference"]["p50"]),
            total=f"{_ms(stages['total']['p50'])}, {_ms(stages['total']['p99'])}",
            conditions=_shown(_conditions(speed, card, test["model"])),
            golden=f"{verdict}; {_margin(test['found'])} of the limit",
            kind=_kind(machine),
        )
        precision = report["bundle"]["models"].get(test["model"], UNKNOWN)
        best.setdefault(precision, (math.inf, row))
        best[precision] = min(best[precision], (stages["total"]["p50"], row), key=lambda pair: pair[0])
    if not best:
        yield Row(
            board=_shown(_board(report, machine, "cpu")),
            kind=_kind(machine),
            network=_shown(_network(report["bundle"])),
            model="",
            golden=verdict,
            system=_shown(_system(report, machine, "")),
        )
    yield from (row for _, row in sorted(best.values(), key=lambda pair: pair[0]))


def _board(report: Mapping[str, Any], machine: Mapping[str, Any], device: str) -> str:
    card = (report["gpu"] or {}).get("found") or {}
    names = [machine["board"], card.get("gpu") if device != "cpu" else None]
    if machine["emulated"]:
        return f"{machine['machine']}, emulated on {machine['processor'] or UNKNOWN}"
    found = [name for name in names if name]
    return ", ".join(
        found if machine["board"] else [*found, f"{machine['processor'] or UNKNOWN} ({machine['machine']})"]
    )


def _system(report: Mapping[str, Any], machine: Mapping[str, Any], backend: str) -> str:
    version = (report["versions"].get(backend) or {}).get("found")
    parts = [machine["jetson_linux"], machine["power_mode"], f"Python {machine['python']}"]
    return ", ".join([part for part in parts if part] + ([f"{backend} {version}"] if version else []))


def _network(bundle: Mapping[str, Any]) -> str:
    return f"{bundle['network'] or UNKNOWN}, {bundle['size'][0]} \u00d7 {bundle['size'][1]}"


def _conditions(speed: Mapping[str, Any], card: Mapping[str, Any] | None, model: str) -> str:
    joules = speed["joules_per_frame"].get(model)
    known = [degrees for degrees in speed["telemetry"]["after"]["temperature_c"].values() if degrees is not None]
    hottest = max(known, default=None)
    windows = speed["throttling"].get(model) or {"windows": 0, "throttled": 0, "unknown": 0}
    counted = windows["windows"] - windows["unknown"]
    energy = None if joules is None else f"{joules * 1e3:.1f} mJ a frame"
    slowed = f"throttled in {windows['throttled']} of {counted} windows" if counted else None
    if card:
        energy = energy or (None if card["power_w"] is None else f"{card['power_w']:.0f} W at most")
        hottest = card["temperature_c"] if hottest is None else hottest
        if slowed is None and card["throttled"] is not None:
            slowed = "throttled: " + (", ".join(card["throttled"]) or "no")
    parts = [energy, None if hottest is None else f"{hottest:.0f} °C", slowed]
    return ", ".join(part for part in parts if part) or UNKNOWN


def _margin(test: Mapping[str, Any]) -> str:
    shares = [
        test[found] / test["tolerance"][limit]
        for found, limit in zip(_DIFFERENCES, _LIMITS, strict=True)
        if test[found] is not None and test["tolerance"][limit]
    ]
    return f"{max(shares, default=0):.2f}"


def _kind(machine: Mapping[str, Any]) -> str:
    if machine["emulated"]:
        return "emulated"
    return "measured, busy" if (machine["load"] or 0) > BUSY_LOAD else "measured"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _shown(value: str) -> str:
    """Return a text that cannot be Markdown or HTML in a cell of a table."""
    value = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", value)


if __name__ == "__main__":
    main()
