"""Rows of a CSV file that lists images: path, label and, optionally, split and group.

Accepts what spreadsheets write, and paths of another computer if their files are found below the CSV file's folder.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from ..errors import DataError
from .findings import Finding, counted, warning
from .layout import split_names

_REQUIRED, _OPTIONAL = ("path", "label"), ("split", "group")
# Spreadsheets write semicolons in countries with a decimal comma.
_DELIMITERS = ",;\t|"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Row:
    """One image of a CSV file."""

    path: Path
    label: str
    split: str
    group: str


@dataclass
class Table:
    """The rows of a CSV file, and what is noteworthy about their paths."""

    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_table(file: Path, labels: bool = True) -> Table:
    """Read a CSV file; DataError names the line that is wrong.  labels: whether every image needs one."""
    table, finder, rows = Table(), _Finder(file.parent), _read_rows(file, _REQUIRED if labels else _REQUIRED[:1])
    splits = split_names(sorted({row["split"] for _, row in rows} - {""}))
    for line, row in rows:
        if not row["path"] or (labels and not row["label"]):
            what = "path or label" if labels else "path"
            raise DataError(f"{file}, line {line}: {what} is empty; fill it in, or remove the line")
        split = splits.get(row["split"], "")
        if row["split"] and not split:
            raise DataError(f"{file}, line {line}: the split is {row['split']!r}; train, val or test was expected")
        table.rows.append(Row(finder.find(row["path"]), row["label"], split, row["group"]))
    unsplit = sum(not row.split for row in table.rows)
    if 0 < unsplit < len(table.rows):
        raise DataError(
            f"{file}: {unsplit} of {len(table.rows)} lines have no split; fill it in on every line, or on none"
        )
    table.findings += finder.findings(file)
    return table


def _read_rows(file: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return each row of a CSV file with its line number; all columns are there, "" if the file lacks them."""
    try:
        lines = io.StringIO(decoded(file.read_bytes())).readlines()
        first, delimiter = _header(lines)
        columns = next(csv.reader(lines[first : first + 1], delimiter=delimiter, skipinitialspace=True), [])
        columns = [column.strip().lower() for column in columns]
        _check_columns(file, columns, required)
        rows = []
        reader = csv.reader(io.StringIO("".join(lines[first + 1 :])), delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            row = _row(file, first + 1 + reader.line_num, columns, [cell.strip() for cell in cells])
            rows += [(first + 1 + reader.line_num, row)] if row else []
    except (csv.Error, UnicodeError) as error:
        raise DataError(f"{file} is not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from None
    if not rows:
        raise DataError(f"{file} lists no images: a line with {' and '.join(required)} for each was expected")
    return rows


def decoded(data: bytes) -> str:
    """Return a text that a person saved, in UTF-8 or, with its mark, UTF-16; UnicodeError if it is in neither."""
    text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    return re.sub(r"\r\n?", "\n", text)


def _header(lines: list[str]) -> tuple[int, str]:
    """Return the index of the header's line and the delimiter, which Excel may state in a line of its own."""
    first = next((number for number, line in enumerate(lines) if line.strip(' \t\n,;"')), len(lines))
    header = lines[first] if first < len(lines) else ""
    stated = re.fullmatch(r'"?sep=(.)"?\s*', header, re.IGNORECASE)
    if stated:
        return first + 1, stated.group(1)
    return first, max(_DELIMITERS, key=header.count)


def _check_columns(file: Path, columns: list[str], required: tuple[str, ...]) -> None:
    if not set(required) <= set(columns):
        expected = "path, label and optionally split were" if "label" in required else "path and optionally label were"
        raise DataError(
            f"{file} has the columns {', '.join(columns) or '(none)'}; {expected} expected in its first line"
        )
    twice = sorted({name for name in (*_REQUIRED, *_OPTIONAL) if columns.count(name) > 1})
    if twice:
        raise DataError(f"{file} has the column {twice[0]} twice; keep one of them")


def _row(file: Path, line: int, columns: list[str], cells: list[str]) -> dict[str, str] | None:
    """Return the cells of a line by column, None for a line without content."""
    if not any(cells):
        return None
    if any(cells[len(columns) :]):
        raise DataError(
            f"{file}, line {line}: {len(cells)} cells, but {len(columns)} columns; "
            "put a path or label with a comma in it into double quotes"
        )
    if any("\0" in cell for cell in cells):
        raise DataError(f"{file}, line {line}: a cell contains a zero byte; remove it")
    row = dict.fromkeys((*_REQUIRED, *_OPTIONAL), "")
    row.update((column, cell) for column, cell in zip(columns, cells, strict=False) if column in row)
    return row


class _Finder:
    """Finds the files of a list that was written on another computer, below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefixes: dict[tuple[str, ...], Path] = {}
        self._names: dict[str, dict[str, list[str]]] = {}
        self._moved: dict[Path, str] = {}
        self._lost: list[str] = []

    def find(self, text: str) -> Path:
        """Return the path of a file; as it is written, if there is no such file."""
        text = _without_address(text)
        written = self._root / os.path.expanduser(text)
        if os.path.lexists(written):
            return written
        # "C:photos" is relative to a folder of that drive.
        parts = [part for part in re.split(r"[\\/]+|(?<=^[A-Za-z]:)", text) if part not in ("", ".")]
        if not _is_elsewhere(text):
            return self._below(self._root, parts) or written
        found = self._elsewhere(tuple(parts))
        # Two paths that end alike are not the same image.
        if found is None or self._moved.setdefault(found, text) != text:
            self._lost.append(text)
            return written
        return found

    def findings(self, file: Path) -> list[Finding]:
        """Return what the owner of the list should know about its paths."""
        findings = []
        if self._moved:
            path, text = next(iter(self._moved.items()))
            message = (
                f"{counted(len(self._moved), 'path')} in {file} are of another computer; {text} was taken for {path}: "
                f"write paths relative to {self._root} to be sure"
            )
            findings.append(warning("foreign-paths", message, self._moved))
        if self._lost:
            message = (
                f"{counted(len(self._lost), 'path')} in {file}, such as {self._lost[0]}, match no file here: "
                f"copy the images to {self._root}, or write paths relative to that folder"
            )
            findings.append(warning("foreign-paths", message, self._lost))
        return findings

    def _elsewhere(self, parts: tuple[str, ...]) -> Path | None:
        """Return the file below the root whose path ends as this one does, with as many folders as possible."""
        for length in range(len(parts) - 1, 0, -1):
            if parts[:length] in self._prefixes:
                found = self._below(self._prefixes[parts[:length]], list(parts[length:]))
                if found:
                    return found
        for length in range(len(parts)):
            found = self._below(self._root, list(parts[length:]))
            if found:
                self._prefixes[parts[:length]] = self._root
                return found
        return None

    def _below(self, folder: Path, parts: list[str]) -> Path | None:
        """Return a file below a folder, whatever the case of its names and the form of their accents."""
        for part in parts:
            if part == "..":
                folder = folder.parent
                continue
            if not os.path.lexists(folder / part):
                same = self._listing(folder).get(_folded(part), [])
                if len(same) != 1:
                    return None
                part = same[0]
            folder = folder / part
        return folder

    def _listing(self, folder: Path) -> dict[str, list[str]]:
        if str(folder) not in self._names:
            names: dict[str, list[str]] = {}
            for name in os.listdir(folder) if folder.is_dir() else []:
                names.setdefault(_folded(name), []).append(name)
            self._names[str(folder)] = names
        return self._names[str(folder)]


def _is_elsewhere(text: str) -> bool:
    """Return whether a path begins with something of another computer: a root, a drive, a variable, or an address."""
    drive = PureWindowsPath(text).drive
    return os.path.isabs(text) or bool(drive) or text.startswith(("\\", "%", "$")) or "://" in text


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _without_address(text: str) -> str:
    """Return the path in a file:// address, and any other text unchanged."""
    if not text.lower().startswith("file:/"):
        return text
    path = unquote(re.sub(r"(?i)^file:(//(localhost)?(?=/)|//)?", "", text))
    return path[1:] if re.match(r"/[A-Za-z]:", path) else path
