"""Groups of images that belong together, such as those of one session, animal or production lot.

All images of a group go to the same split.  A CSV file names groups in a column; ``--group-by`` takes them from paths.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from .findings import Finding, counted, error, listed, warning

FEWEST = 3
"""Groups from which each of train, val and test can have one."""
_UNEVEN = 0.5


def group_of(path: str, label: str, group_by: str) -> str:
    """Return the group of an image, "" if it has none.

    path: relative to the data set, with forward slashes; what is above the class folder, and that folder, do not count.
    group_by: a number of folders below the class folder, or a regular expression, whose captured groups (or whole match)
    are the name of the group.
    """
    parts = path.split("/")
    if label in parts[:-1]:
        parts = parts[parts.index(label) + 1 :]
    if group_by.isdecimal():
        return "/".join(parts[: int(group_by)]) if len(parts) > int(group_by) else ""
    found = re.search(group_by, "/".join(parts))
    if not found:
        return ""
    return "/".join(part or "" for part in found.groups()) or found.group()


def about_groups(
    name: str, groups: Mapping[str, str], splits: Mapping[str, str], shares: Mapping[str, float], group_by: str | None
) -> list[Finding]:
    """Return the findings about groups.

    groups, splits: group and split of each image, by its path.  shares: of all images, by split; empty for data with a split
    of its own.
    """
    grouped = [path for path, group in groups.items() if group]
    if group_by and not grouped:
        example = f", such as {next(iter(groups))!r}" if groups else ""
        message = f"--group-by {group_by} finds no group in the path of any image of {name}{example}: correct it"
        return [error("groups", message)]
    if not grouped:
        return []
    findings = _about_the_ungrouped(name, groups)
    return findings + (_about_shares(name, groups, splits, shares) if shares else _about_sides(groups, splits))


def _about_the_ungrouped(name: str, groups: Mapping[str, str]) -> list[Finding]:
    alone = [path for path, group in groups.items() if not group]
    if not alone:
        return []
    message = f"{counted(len(alone), 'image')} of {len(groups)} in {name} have no group, so each is split by itself"
    return [warning("groups", message, alone)]


def _about_sides(groups: Mapping[str, str], splits: Mapping[str, str]) -> list[Finding]:
    """Return the finding about groups that the data's own split tears apart."""
    sides: dict[str, set[str]] = defaultdict(set)
    for path, group in groups.items():
        sides[group].add(splits[path])
    torn = [group for group, found in sides.items() if group and len(found) > 1]
    if not torn:
        return []
    message = f"groups in several splits, which makes results look too good: {listed(torn)}: keep each in one split"
    return [warning("leaked-group", message, [path for path, group in groups.items() if group in torn])]


def _about_shares(
    name: str, groups: Mapping[str, str], splits: Mapping[str, str], shares: Mapping[str, float]
) -> list[Finding]:
    """Return the finding about groups that are too few or too large for the requested shares."""
    units = {group or path for path, group in groups.items()}
    if len(units) < FEWEST:
        message = (
            f"{name} has {counted(len(units), 'group')}, but train, val and test need one each: "
            f"collect images of {FEWEST} groups or more, or split by something finer"
        )
        return [error("groups", message)]
    found = {split: sum(side == split for side in splits.values()) / len(splits) for split in shares}
    uneven = [split for split, share in shares.items() if abs(found[split] - share) > _UNEVEN * share]
    if not uneven:
        return []
    table = ", ".join(f"{split} {found[split]:.0%} ({shares[split]:.0%} was asked for)" for split in uneven)
    message = (
        f"groups stay together, and {name} has only {len(units)}: {table}: collect more groups, or try another --seed"
    )
    return [warning("groups", message)]


def about_torn(paths: Sequence[Path], keys: Sequence[str], torn: Collection[str]) -> list[Finding]:
    """Return the finding about groups whose images keep the several splits that they had, or nothing; keys: of each image."""
    files = [path for path, key in zip(paths, keys, strict=True) if key in torn]
    if not files:
        return []
    message = (
        f"{counted(len(files), 'image')} in {counted(len(torn), 'group')} of images that are alike, or have one name, are in several "
        "splits, since each keeps the one that it had: results may look too good; remove those that join the groups, or make "
        "a new split, without --split-of"
    )
    return [warning("torn-group", message, files)]


def split_keys(digests: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return what decides the split of each image: its group, or, if it has none, the hash of its content."""
    return [f"group:{group}" if group else digest for digest, group in zip(digests, groups, strict=True)]
