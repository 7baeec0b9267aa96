"""Small photographs of noise, each with its own pixels, in the format that its name says."""

import cv2
import numpy as np


def picture(seed, width=32, height=32):
    """Pixels of noise, uint8 [height, width, 3]; the same for the same seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write_picture(path, pixels, suffix=""):
    """Write pixels in the format of a suffix, by default the path's own; PNG if that is none of OpenCV's."""
    suffix = suffix or (
        path.suffix.lower() if path.suffix.lower() in (".jpg", ".jpeg", ".bmp", ".webp", ".tif") else ".png"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def write_photos(root, names, **size):
    """Write a photograph under each of the names; returns the folder."""
    for name in names:
        write_picture(root / name, picture(hash_of(name), **size))
    return root


def hash_of(name):
    """A number that differs from name to name, the same in every process."""
    import zlib

    return zlib.crc32(name.encode())


def kinds(findings):
    """The kinds of findings, without repeats."""
    return {finding.kind for finding in findings}


def only(findings, kind):
    """The one finding of a kind."""
    [found] = [finding for finding in findings if finding.kind == kind]
    return found
