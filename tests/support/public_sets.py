"""Small files in the formats of public data sets, as their authors write them."""

import gzip
import struct
import tarfile

import numpy as np

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR_BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
CIFAR_PYTHON, CIFAR_BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"


def cifar_batches(images=10):
    """Pixels, uint8 [images, 3, 32, 32], and labels of each batch."""
    random = np.random.default_rng(0)
    return {
        name: (random.integers(0, 256, (images, 3, 32, 32), np.uint8), [number % 10 for number in range(images)])
        for name in CIFAR_BATCHES
    }


def python2_pickle(pixels, labels):
    """A batch of the Python version: a pickle of Python 2, protocol 2, with a numpy array (the real one has more keys)."""

    def text(value):  # SHORT_BINSTRING
        return b"U" + bytes([len(value)]) + value

    raw = pixels.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R("
        b"K\x01J" + struct.pack("<i", len(pixels)) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    )
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"labels") + listed + text(b"data") + array + b"u."


def cifar_record(pixels, labels):
    """A batch of the binary version: a byte with the label and 3,072 with the pixels of each image."""
    return b"".join(bytes([label]) + picture.tobytes() for picture, label in zip(pixels, labels, strict=True))


def write_cifar(home, version=CIFAR_PYTHON, packed=False, images=10):
    """Write the files of a version, also as an archive; returns the batches."""
    batches = cifar_batches(images)
    folder = home / version
    folder.mkdir(parents=True)
    for name, (pixels, labels) in batches.items():
        if version == CIFAR_PYTHON:
            (folder / name).write_bytes(python2_pickle(pixels, labels))
        else:
            (folder / f"{name}.bin").write_bytes(cifar_record(pixels, labels))
    if packed:
        name = "cifar-10-python.tar.gz" if version == CIFAR_PYTHON else "cifar-10-binary.tar.gz"
        with tarfile.open(home / name, "w:gz") as archive:
            archive.add(folder, version)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return batches


def idx(array):
    """An IDX file of bytes, as those of MNIST."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_fashion(folder, images=40, packed=True):
    """Write the four files of Fashion-MNIST; returns pixels and labels by split."""
    random = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = random.integers(0, 256, (images, 28, 28), np.uint8)
        labels = np.arange(images, dtype=np.uint8) % 10
        parts[split] = pixels, labels
        for name, data in ((f"{prefix}-images-idx3-ubyte", idx(pixels)), (f"{prefix}-labels-idx1-ubyte", idx(labels))):
            (folder / (name + ".gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return parts
