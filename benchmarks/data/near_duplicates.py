"""Near-duplicates: how many the check finds, how many it reports falsely, and how long the comparison takes.

    python3 benchmarks/data/near_duplicates.py [--folder PHOTOS] [--video FILE] [--sizes 10000 100000]

Method: each image of ELPV (or of --folder) is copied once by each change: JPEG of quality 60 to 95, 0.5 to 2 times the size, a shift by 5 % of the
side in one of eight directions (what comes in repeats the border), a crop to 95 % anywhere, 0.8 to 1.2 times the brightness, and two
combinations of them.  The originals and one kind of copy are searched together; a pair is found if both are in one group.  Then only
the originals are searched: every image in a group counts as reported, also ELPV's cells of one ingot that look the same.  Half of
the images (drawn by --seed 1) were used to choose thresholds; the figures are of the other half (--half chosen shows the first), and of all for
the share that is reported.  dHash and pHash, 64 bits each, are compared at the largest distance that reports at most 1 % of the originals.

--video: frames of a video; given is the share of frames that are in one group with the frame before.  --sizes: the time and the memory
of the search in sets of that size, made of ELPV's cells, mirrored, turned and cut into overlapping quarters.
"""

import argparse
import json
import os
import random
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from edgeclf.data.checks.near_duplicates import near_duplicates
from edgeclf.data.checks.thumbnails import SIDE, Thumbnail, thumbnail_of
from edgeclf.data.datasets import load_dataset
from edgeclf.data.pixels import read_photo
from edgeclf_runtime.device.machine import machine_facts


def jpeg(image, rng):
    """Return the image compressed by JPEG, quality 60 to 95."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))])[1], 1)


def resize(image, rng):
    """Return the image at 0.5 to 2 times its size."""
    scale = 2 ** rng.uniform(-1, 1)
    size = [max(8, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def shift(image, rng):
    """Return the image moved by 5 % of its sides, in one of eight directions."""
    height, width = image.shape[:2]
    x, y = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y][rng.integers(8)]
    matrix = np.array([[1, 0, 0.05 * width * x], [0, 1, 0.05 * height * y]])
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


def crop(image, rng):
    """Return 95 % of the image's width and height, from anywhere."""
    sides = [round(0.95 * side) for side in image.shape[:2]]
    y, x = (int(rng.integers(old - new + 1)) for old, new in zip(image.shape, sides, strict=False))
    return np.ascontiguousarray(image[y : y + sides[0], x : x + sides[1]])


def brightness(image, rng):
    """Return the image at 0.8 to 1.2 times its brightness."""
    return np.clip(image * rng.uniform(0.8, 1.2), 0, 255).round().astype(np.uint8)


def chain(*changes):
    """Return the change that makes several, one after the other."""

    def change(image, rng):
        for each in changes:
            image = each(image, rng)
        return image

    return change


CHANGES = {
    "jpeg": jpeg,
    "resize": resize,
    "shift": shift,
    "crop": crop,
    "brightness": brightness,
    "shift, brightness, resize, jpeg": chain(shift, brightness, resize, jpeg),
    "crop, brightness, resize, jpeg": chain(crop, brightness, resize, jpeg),
}


def thumbnails(task):
    """Return the thumbnails of an image and of its copies."""
    path, seed = task
    image, rng = read_photo(path), np.random.default_rng(seed)
    return [thumbnail_of(image), *(thumbnail_of(change(image, rng)) for change in CHANGES.values())]


def dhash(thumbnail):
    """Return 64 bits: whether each pixel of 8 x 9 is brighter than its left neighbor."""
    small = cv2.resize(thumbnail.gray, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
    return (small[:, 1:] > small[:, :-1]).reshape(-1)


def phash(thumbnail):
    """Return 64 bits: whether each of the lowest cosine coefficients is above their median."""
    small = cv2.resize(thumbnail.gray, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].reshape(-1)
    return low > np.median(low)


def found_by_hash(function, originals, copies):
    """Return the share of pairs found at the largest distance that reports at most 1 % of the originals, and that distance."""
    bits = np.stack([function(one) for one in originals]).astype(np.int16)
    nearest = np.array([np.sort(np.abs(bits - row).sum(1))[1] for row in bits])
    distance = max((d for d in range(65) if (nearest <= d).mean() <= 0.01), default=-1)
    shares = {
        name: float(np.mean([np.sum(function(one) != row) <= distance for one, row in zip(those, bits, strict=True)]))
        for name, those in copies.items()
    }
    return {"distance": distance, "found": shares}


def groups_of(those):
    """Return the group of each thumbnail, its own index if it is in none."""
    found = list(range(len(those)))
    for group in near_duplicates(those):
        for index in group:
            found[index] = group[0]
    return found


def found(originals, copies):
    """Return the share of pairs in one group; flat images, which are not compared, do not count."""
    groups = groups_of([*originals, *copies])
    count = len(originals)
    return float(np.mean([groups[i] == groups[count + i] for i in range(count) if not originals[i].is_flat]))


def reported(originals, paths):
    """Return the share of originals in a group, and the groups."""
    groups = near_duplicates(originals)
    names = [[Path(paths[index]).name for index in group] for group in groups]
    return {"share": sum(map(len, groups)) / len(originals), "groups": names}


def consecutive(video):
    """Return the frames of a video, and the share of those that are in one group with the frame before."""
    stream, frames = cv2.VideoCapture(video), []
    while (frame := stream.read()[1]) is not None:
        frames.append(thumbnail_of(frame))
    groups = groups_of(frames)
    same = [groups[i] == groups[i - 1] for i in range(1, len(frames))]
    return {"frames": len(frames), "with_the_one_before": float(np.mean(same)), "groups": len(set(groups))}


def cost(originals, size):
    """Return the seconds and the largest memory of a search in ``size`` images, in a process of its own."""
    with ProcessPoolExecutor(1) as pool:
        return pool.submit(_cost, originals, size).result()


def _cost(originals, size):
    turned = [np.rot90(one.gray[:, ::way], turn) for way in (1, -1) for turn in range(4) for one in originals]
    half = SIDE * 3 // 5
    corners = [(slice(y, y + half), slice(x, x + half)) for y in (0, SIDE - half) for x in (0, SIDE - half)]
    parts = (cv2.resize(image[corner], (SIDE, SIDE)) for corner in corners for image in turned)
    grays = [*turned, *parts][:size] if size > len(turned) else turned[:size]
    those = [Thumbnail(np.ascontiguousarray(gray), None) for gray in grays]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    groups = near_duplicates(those)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"images": len(those), "seconds": seconds, "more_mb": (peak - before) / 1024, "groups": len(groups)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="photographs to use instead of ELPV's")
    parser.add_argument("--half", choices=("reported", "chosen", "both"), default="reported")
    parser.add_argument("--seed", type=int, default=1, help="draws the halves")
    parser.add_argument("--video", nargs="*", default=[])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    paths = sorted(Path(arguments.folder).rglob("*.*")) if arguments.folder else _elpv()
    random.Random(arguments.seed).shuffle(paths)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(thumbnails, [(path, number) for number, path in enumerate(paths)], chunksize=16))
    half = {"chosen": slice(len(rows) // 2), "reported": slice(len(rows) // 2, None), "both": slice(None)}[
        arguments.half
    ]
    originals, *others = ([row[column] for row in rows] for column in range(1 + len(CHANGES)))
    copies = {name: those[half] for name, those in zip(CHANGES, others, strict=True)}
    report = {
        "pairs": len(originals[half]),
        "found": {name: found(originals[half], those) for name, those in copies.items()},
        "reported": {"half": reported(originals[half], paths[half]), "all": reported(originals, paths)},
        "hashes": {function.__name__: found_by_hash(function, originals[half], copies) for function in (dhash, phash)},
        "videos": {Path(video).name: consecutive(video) for video in arguments.video},
        "cost": [cost(originals, size) for size in arguments.sizes],
        "machine": machine_facts(),
    }
    print(json.dumps(report) if arguments.json else table(report))


def _elpv():
    return sorted(sample.path for sample in load_dataset("elpv").samples)


def table(report) -> str:
    """Return the report for people."""
    hashes = report["hashes"]
    lines = [f"{'found, of ' + str(report['pairs']) + ' pairs':34}  edgeclf    dHash    pHash"]
    lines += [
        f"{name:34}  {share:7.2%}  {hashes['dhash']['found'][name]:7.2%}  {hashes['phash']['found'][name]:7.2%}"
        for name, share in report["found"].items()
    ]
    lines += [
        f"reported of {name}: {those['share']:.2%}, {those['groups']}" for name, those in report["reported"].items()
    ]
    lines += [
        f"{name}: {those['frames']} frames, {those['with_the_one_before']:.1%} with the one before, {those['groups']} groups"
        for name, those in report["videos"].items()
    ]
    lines += ["{images} images: {seconds:.1f} s, {more_mb:.0f} MB more".format(**row) for row in report["cost"]]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
