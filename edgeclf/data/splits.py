"""Splits images into train, val and test by the hash of their content or of their group, or as an earlier run had them.

``divide`` gives each image of a data set its split.  ``divide_by_hash`` is the rule for new data: an image's side depends on nothing but its own
hash, so it stays where it is when the data grows.  ``divide_exactly`` meets the shares exactly, and is kept for runs that were made with it and for ELPV.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_bytes

from ..errors import DataError, reason
from ..options import SplitOptions
from .findings import Finding, counted, warning
from .groups import about_groups, about_torn, group_of, split_keys

if TYPE_CHECKING:
    from .datasets import Dataset

SPLIT_FILE = "split.csv"
"""In a run: each image's path, label, split, group and sha256."""
MAX_SPLIT_BYTES = 1 << 30
_FEWEST = 3
"""Pictures or groups of a label from which each of train, val and test can have one."""


def divide(dataset: Dataset, options: SplitOptions) -> Dataset:
    """Return the data set with a split for every sample; a missing validation split is taken from train."""
    dataset = _grouped(dataset, options)
    present = {sample.split for sample in dataset.samples}
    if "" in present:
        shares = {"test": options.test, "val": options.val}
    elif "val" not in present and "train" in present:
        shares = {"val": options.val}
    else:
        return _with_group_findings(dataset, options, {})
    divisible = [sample for sample in dataset.samples if sample.split in ("", "train")]
    # A file that cannot be read is split by its path; the integrity check reports it later.
    digests = [digest or str(sample.path) for sample, digest in zip(divisible, dataset.sha256(divisible), strict=True)]
    if options.method == "exact":
        strata = [(sample.label, sample.group if dataset.stratified else "") for sample in divisible]
        division = Division(divide_exactly(strata, digests, shares, options.seed))
    else:
        keys = split_keys(digests, [sample.group for sample in divisible])
        if options.group_similar:
            from .checks.near_duplicates import joined_keys

            keys = joined_keys([sample.path for sample in divisible], digests, keys)
        division = divide_by_hash([sample.label for sample in divisible], keys, shares, options.seed)
    findings: list[Finding] = []
    if options.split_of:
        known = read_sides(options.split_of)
        division, torn = with_known_sides(division, digests, known, {"train", *shares})
        findings = about_torn([sample.path for sample in divisible], division.keys, torn)
    # By position: a file may be listed in test, too.
    divided = iter(division.splits)
    samples = tuple(
        replace(sample, split=next(divided)) if sample.split in ("", "train") else sample for sample in dataset.samples
    )
    findings = [*dataset.findings, *_about_moved(division), *findings]
    dataset = replace(dataset, samples=samples, divided_by=options, findings=tuple(findings))
    return _with_group_findings(dataset, options, shares if "test" in shares else {})


def _grouped(dataset: Dataset, options: SplitOptions) -> Dataset:
    """Return the data set with the groups that --group-by finds in the paths."""
    if not options.group_by:
        return dataset
    groups = [group_of(dataset.relative(sample), sample.label, options.group_by) for sample in dataset.samples]
    samples = (replace(sample, group=group) for sample, group in zip(dataset.samples, groups, strict=True))
    # The finding about nested folders suggests what was done here.
    findings = [finding for finding in dataset.findings if finding.kind != "nested"]
    named = sum(bool(sample.group) for sample in dataset.samples)
    if named:
        message = f"--group-by takes the place of the column group, in which {counted(named, 'image')} of {dataset.name} have one"
        findings.append(warning("groups", message))
    return replace(dataset, samples=tuple(samples), findings=tuple(findings))


def _with_group_findings(dataset: Dataset, options: SplitOptions, shares: dict[str, float]) -> Dataset:
    if dataset.stratified or options.method == "exact":
        return dataset
    groups = {str(sample.path): sample.group for sample in dataset.samples}
    splits = {str(sample.path): sample.split for sample in dataset.samples}
    asked = {"test": shares["test"], "val": (1 - shares["test"]) * shares["val"]} if shares else {}
    found = about_groups(dataset.name, groups, splits, asked, options.group_by)
    return replace(dataset, findings=(*dataset.findings, *found))


def _about_moved(division: Division) -> list[Finding]:
    if not division.moved:
        return []
    count = sum(map(division.moved.__contains__, division.keys))
    message = (
        f"a split, or a label's train, would have had no images, so {counted(count, 'image')} moved to another split; they may move back when "
        "the data grows: collect more images"
    )
    return [warning("few-images", message)]


@dataclass(frozen=True)
class Division:
    """The split of each image."""

    splits: list[str]
    keys: Sequence[str] = ()
    """The key of each image, its hash or group, which decided its split."""
    moved: frozenset[str] = frozenset()
    """Keys that are not on the side of their hash, because a split or a label's train would have been empty."""


def divide_by_hash(
    labels: Sequence[Hashable], keys: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> Division:
    """Divide images by a key of each: the hash of its content, or its group; equal keys go to the same split.

    shares: for each split, its share of the images that the splits before it left.  The shares are met on average: of n
    images, the standard deviation of a share s is sqrt(s * (1 - s) / n).
    """
    positions = {key: _position(key, seed) for key in set(keys)}
    sides = {key: _side(position, shares) for key, position in positions.items()}
    units: dict[Hashable, set[str]] = defaultdict(set)
    for label, key in zip(labels, keys, strict=True):
        units[label].add(key)
    ordered = [sorted(found, key=positions.__getitem__) for found in units.values()]
    moved = _give_train(ordered, sides)
    for split in shares:
        if split not in sides.values():
            moved |= _fill(split, ordered, sides)
    return Division([sides[key] for key in keys], keys, frozenset(moved))


def _position(key: str, seed: int) -> float:
    """Return where a key lies in [0, 1), evenly distributed."""
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:13], 16) / 16**13


def _side(position: float, shares: Mapping[str, float]) -> str:
    end, left = 0.0, 1.0
    for split, share in shares.items():
        end += left * share
        left *= 1 - share
        if position < end:
            return split
    return "train"


def _give_train(units: Sequence[Sequence[str]], sides: dict[str, str]) -> set[str]:
    """Give each label that has no training image the one whose hash is nearest to that side."""
    moved = {keys[-1] for keys in units if all(sides[key] != "train" for key in keys)}
    sides.update(dict.fromkeys(moved, "train"))
    return moved


def _fill(split: str, units: Sequence[Sequence[str]], sides: dict[str, str]) -> set[str]:
    """Give an empty split one picture or group of each label that can spare one, the nearest of train."""
    moved: set[str] = set()
    for keys in units:
        if len(keys) < _FEWEST or any(sides[key] == split for key in keys):
            continue
        for key in sorted(keys, key=lambda key: sides[key] != "train"):
            if _can_spare(key, units, sides):
                sides[key] = split
                moved.add(key)
                break
    return moved


def _can_spare(key: str, units: Sequence[Sequence[str]], sides: Mapping[str, str]) -> bool:
    """Return whether each label of a key has another one in the same split."""
    return all(Counter(sides[other] for other in keys)[sides[key]] > 1 for keys in units if key in keys)


def divide_exactly(
    strata: Sequence[Hashable], digests: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> list[str]:
    """Return the split of each image: a name in ``shares``, or "train".

    strata: stratum of each image, such as its label; every stratum is split in the same
    proportions.  digests: hash of each image's content; images with the same digest go to the same
    split.  shares: for each split, its share of the images that the splits before it left.
    """
    members: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for stratum, digest in zip(strata, digests, strict=True):
        members[stratum][hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()] = digest
    assigned: dict[str, str] = {}
    for images in members.values():
        rest = [images[key] for key in sorted(images)]
        for split, share in shares.items():
            # A class always keeps a training image, and with three or more images has one in each split.
            count = min(max(round(len(rest) * share), int(len(images) >= 3)), len(rest) - 1)
            assigned.update(dict.fromkeys(rest[:count], split))
            rest = rest[count:]
    return [assigned.get(digest, "train") for digest in digests]


def read_sides(source: str | Path) -> dict[str, str]:
    """Return the split of each image, by its content's hash, of a run or a split.csv; DataError if it is neither."""
    path = Path(source)
    file = path / SPLIT_FILE if path.is_dir() else path
    try:
        reader = csv.DictReader(
            read_bytes(file, MAX_SPLIT_BYTES).decode("utf-8").splitlines(keepends=True), strict=True
        )
        if not {"split", "sha256"} <= set(reader.fieldnames or ()):
            raise ValueError("it has no columns split and sha256")
        sides: dict[str, str] = {}
        for row in reader:
            if row["sha256"]:
                sides.setdefault(row["sha256"], row["split"])
        return sides
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{source} does not say which image is in which split ({reason(error)}): a run, or its {SPLIT_FILE}, was expected"
        ) from None


def with_known_sides(
    division: Division, digests: Sequence[str], known: Mapping[str, str], allowed: Collection[str]
) -> tuple[Division, set[str]]:
    """Return a division in which images with a known side keep it, and others with the same key go there too.

    known: split by hash; those not among ``allowed`` do not count.  The second value: the keys whose images are known on several
    sides, since groups that were apart became one; its new images go where most of the known ones are.
    """
    keys = division.keys or digests
    sides: dict[str, Counter[str]] = defaultdict(Counter)
    for digest, key in zip(digests, keys, strict=True):
        if known.get(digest) in allowed:
            sides[key][known[digest]] += 1
    most = {key: max(sorted(found), key=found.__getitem__) for key, found in sides.items()}
    splits = [
        known[digest] if known.get(digest) in allowed else most.get(key, split)
        for digest, key, split in zip(digests, keys, division.splits, strict=True)
    ]
    torn = {key for key, found in sides.items() if len(found) > 1}
    return Division(splits, keys, division.moved - most.keys()), torn
