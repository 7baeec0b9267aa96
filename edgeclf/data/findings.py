"""A problem of a data set, or something about it that its owner should know."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.text.terminal import printable

SHOWN_FILES = 5
_SHOWN_NAMES = 6


@dataclass(frozen=True)
class Finding:
    """One problem, or possible problem, of a data set."""

    kind: str
    """A short name, such as unreadable or duplicate; docs/commands.md lists them."""
    severity: str
    """"error" stops training, "warning" does not."""
    message: str
    files: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    """Lines below the message: the first files, where names in a sentence would be hard to read."""

    def __str__(self) -> str:
        text = printable(f"{self.severity}: {self.kind}: {self.message}")
        text += "".join(f"\n    {printable(line)}" for line in self.examples)
        if len(self.files) > SHOWN_FILES:
            # Not how many more: a message names some files, all, or none, as it suits the problem.
            return f"{text}\n    (--json lists all {len(self.files)} files)"
        return text


def warning(kind: str, message: str, files: Iterable[Path | str] = (), examples: Iterable[str] = ()) -> Finding:
    """Return a finding that does not stop training."""
    return Finding(kind, "warning", message, tuple(map(str, files)), tuple(examples))


def error(kind: str, message: str, files: Iterable[Path | str] = ()) -> Finding:
    """Return a finding that stops training."""
    return Finding(kind, "error", message, tuple(map(str, files)))


def count_files(findings: Iterable[Finding], kind: str) -> int:
    """Return how many files the findings of one kind name."""
    return sum(len(finding.files) for finding in findings if finding.kind == kind)


def left_out_lines(unreadable: int, trained_on: int = 0, near_trained: int = 0) -> list[str]:
    """Return a report's lines about images that were left out, none for a count of 0."""
    reasons = (
        (trained_on, "that the model was trained on"),
        (near_trained, "nearly the same as one that the model was trained on"),
        (unreadable, "that cannot be decoded"),
    )
    return [f"left out: {counted(count, 'image')} {reason}" for count, reason in reasons if count]


def listed(names: Iterable[str]) -> str:
    """Return the first few names, separated by commas."""
    names = list(names)
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def counted(count: int, what: str) -> str:
    """Return a number and its noun: "1 image", "2 images"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
