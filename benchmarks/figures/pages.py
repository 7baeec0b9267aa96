"""Tables that scripts write into pages, between two marks."""

from __future__ import annotations

from pathlib import Path

from edgeclf_runtime.files.outputs import new_file


def with_table(page: str, begin: str, end: str, table: str) -> str:
    """Return a page's text with another table between its marks; SystemExit if it does not have them."""
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise SystemExit(f"error: the page has no {begin!r} and {end!r}; put them where the table belongs")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def write_table(path: Path, begin: str, end: str, table: str) -> None:
    """Replace the table between a page's marks."""
    text = with_table(path.read_text(encoding="utf-8"), begin, end, table)
    with new_file(path, overwrite=True) as work:
        Path(work).write_text(text, encoding="utf-8")


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [titles, ["---"] * len(titles), *rows])
