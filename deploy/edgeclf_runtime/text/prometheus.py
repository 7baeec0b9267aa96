"""Family, a metric and its samples, in the text format that Prometheus reads.

Version 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/.  Names follow
https://prometheus.io/docs/practices/naming/: base units, and ``_total`` for what only grows.
"""

from typing import Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

KIND = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}

Labels = Mapping[str, str]
Sample = Tuple[str, Labels, float]
"""The end of its name, its labels, and its value."""


class Family(NamedTuple):
    """One metric: its name, type and help, and its samples."""

    name: str
    type: str
    help: str
    samples: Iterable[Sample]


def single(name: str, kind: str, what: str, value: float) -> Family:
    """Return a metric of one sample without labels of its own."""
    return Family(name, kind, what, [("", {}, value)])


def text_of(families: Iterable[Family], common: Labels) -> str:
    """Return the text of some metrics; ``common``: labels of every sample."""
    return "".join(line for family in families for line in _lines(family, common))


def joined(parts: Iterable[Tuple[Iterable[Family], Labels]]) -> List[Family]:
    """Return the metrics of several streams, each once, with the samples of all: a text may name a metric only once.

    parts       the metrics of each stream, and the labels of all its samples
    """
    found: Dict[str, Family] = {}
    for families, common in parts:
        for family in families:
            samples = [(end, {**common, **labels}, value) for end, labels, value in family.samples]
            before = found.get(family.name, family._replace(samples=[]))
            found[family.name] = before._replace(samples=[*before.samples, *samples])
    return list(found.values())


def _lines(family: Family, common: Labels) -> Iterator[str]:
    yield "# HELP {} {}\n".format(family.name, family.help)
    yield "# TYPE {} {}\n".format(family.name, family.type)
    for end, labels, value in family.samples:
        pairs = ",".join('{}="{}"'.format(key, text.translate(_ESCAPES)) for key, text in {**common, **labels}.items())
        yield "{}{}{} {!r}\n".format(family.name, end, "{" + pairs + "}" if pairs else "", float(value))
