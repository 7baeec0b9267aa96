"""Images, networks and features of unknown.py, each made once and kept in its working folder.

    python3 benchmarks/accuracy/unknown_features.py FOLDER

writes the foreign images of ELPV as files for ``edgeclf evaluate --unknown``: photographs, textiles and the test images of Fashion-MNIST.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from edgeclf import load_dataset
from edgeclf.data.public_sets.fashion_mnist import read_idx
from edgeclf.training.architecture import ImageClassifier
from edgeclf.training.backbones import create

BACKBONE = "tf_efficientnet_lite0"
CLASSES = 10
TRAIN_EACH, VAL_EACH, TEST_EACH = 500, 150, 200
TUNED_PIXELS, FROZEN_PIXELS = 64, 96
EPOCHS, BATCH, RATE = 3, 32, 1e-3
TEXTILES, CROPS = 600, 24
_FASHION = Path("/usr/share/datasets/fashion-mnist")
# Those that the wheel of scikit-image holds; 8 bits, and no drawings.
_PHOTOGRAPHS = [
    "astronaut",
    "brick",
    "camera",
    "cell",
    "chelsea",
    "coffee",
    "coins",
    "grass",
    "gravel",
    "hubble_deep_field",
    "ihc",
    "microaneurysms",
    "moon",
    "motorcycle_left",
    "page",
    "retina",
    "rocket",
    "text",
]

Images = Sequence[np.ndarray]
Arrays = dict[str, np.ndarray]


def fashion_mnist() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images, uint8 [N, 28, 28], and labels, int [N], of train, val and test: equally many of each label."""
    if not _FASHION.is_dir():
        sys.exit("Fashion-MNIST was not found; install it: apt install dataset-fashion-mnist")
    images, labels = read_idx(_FASHION, "train-images-idx3-ubyte", 3), read_idx(_FASHION, "train-labels-idx1-ubyte", 1)
    test, test_labels = read_idx(_FASHION, "t10k-images-idx3-ubyte", 3), read_idx(_FASHION, "t10k-labels-idx1-ubyte", 1)
    random = np.random.default_rng(0)
    mixed = [random.permutation(np.flatnonzero(labels == label)) for label in range(CLASSES)]
    train, val = (
        np.concatenate([rows[part] for rows in mixed]) for part in (slice(TRAIN_EACH), slice(-VAL_EACH, None))
    )
    chosen = np.concatenate([np.flatnonzero(test_labels == label)[:TEST_EACH] for label in range(CLASSES)])
    return {
        "train": (images[train], labels[train].astype(int)),
        "val": (images[val], labels[val].astype(int)),
        "test": (test[chosen], test_labels[chosen].astype(int)),
    }


def solar_cells() -> tuple[list[np.ndarray], np.ndarray]:
    """Return ELPV's images, uint8 [300, 300], and their labels: 1 for defective."""
    samples = load_dataset("elpv").samples
    images = [cv2.imread(str(sample.path), cv2.IMREAD_GRAYSCALE) for sample in samples]
    return images, np.array([sample.label == "defective" for sample in samples], int)


def photographs() -> list[np.ndarray]:
    """Return scikit-image's photographs and textures, and squares cut out of each at random: RGB or gray, uint8."""
    folder, images = _package("skimage") / "data", []
    for name in _PHOTOGRAPHS:
        (path,) = folder.glob(f"{name}.*")
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        height, width = image.shape[:2]
        random = np.random.default_rng(len(images))
        for share in (1.0, *random.uniform(0.3, 0.8, CROPS)):
            size = int(share * min(height, width))
            y, x = random.integers(height - size + 1), random.integers(width - size + 1)
            images.append(image[y : y + size, x : x + size])
    return images


def textiles() -> list[np.ndarray]:
    """Return simulated textiles, RGB, uint8, of every kind."""
    paths = sorted((_package("conformal_clip_data") / "data" / "textile_images" / "simulated").glob("*/*"))
    chosen = np.random.default_rng(1).choice(len(paths), TEXTILES, replace=False)
    return [cv2.cvtColor(cv2.imread(str(paths[index])), cv2.COLOR_BGR2RGB) for index in chosen]


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        sys.exit(
            f"{name} is not installed: pip install --no-deps {name.replace('_', '-').replace('skimage', 'scikit-image')}"
        )
    return Path(found.submodule_search_locations[0])


def kept(work: Path, name: str, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of a file in the working folder, which is made if it is missing."""
    file = work / f"{name}.npz"
    if not file.is_file():
        print(f"making {name}", file=sys.stderr)
        np.savez(file, **make())
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def tuned(images: np.ndarray, labels: np.ndarray, seed: int) -> ImageClassifier:
    """Return the backbone after every layer was trained on images; labels: int, 0 to the number of labels - 1."""
    torch.manual_seed(seed)
    network = create(BACKBONE, int(labels.max()) + 1, "imagenet").to(memory_format=torch.channels_last)
    steps = len(images) // BATCH
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps + 1)
    random = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        network.train()
        order = random.permutation(len(images))
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            batch = _batch([images[row] for row in rows], TUNED_PIXELS)
            batch = batch.flip(2) if random.random() < 0.5 else batch
            loss = torch.nn.functional.cross_entropy(network(batch), torch.from_numpy(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network


def run(network: ImageClassifier, images: Images, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and logits, float32 [images, features] and [images, labels]."""
    network.eval()
    with torch.no_grad():
        parts = [network.features(_batch(part, pixels)) for part in _parts(images)]
        features = torch.cat(parts)
        return features.numpy(), network.head(features).numpy()


def _parts(images: Images) -> Iterator[Images]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


def _batch(images: Images, pixels: int) -> torch.Tensor:
    resized = []
    for image in images:
        smaller = image.shape[0] > pixels
        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
        resized.append(cv2.resize(rgb, (pixels, pixels), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR))
    return torch.from_numpy(np.stack(resized).astype(np.float32))


def tuned_without(label: int) -> Arrays:
    """Return features and logits of a network that does not know a label (-1: knows all), whose images are -1 in test."""
    sets = fashion_mnist()
    known = np.array([number for number in range(CLASSES) if number != label])
    index = np.full(CLASSES, -1)
    index[known] = np.arange(len(known))
    parts = {name: (x, y) if name == "test" else (x[y != label], y[y != label]) for name, (x, y) in sets.items()}
    network = tuned(parts["train"][0], index[parts["train"][1]], label % (CLASSES + 1))
    found: Arrays = {}
    for name, (images, labels) in parts.items():
        found[f"{name}_f"], found[f"{name}_l"] = run(network, images, TUNED_PIXELS)
        found[f"{name}_y"] = index[labels]
    if label < 0:
        for name, images in (
            ("photographs", photographs()),
            ("textiles", textiles()),
            ("solar", solar_cells()[0][::4]),
        ):
            found[f"{name}_f"], found[f"{name}_l"] = run(network, images, TUNED_PIXELS)
    return found


def _frozen(images: Images) -> Arrays:
    return {"f": run(create(BACKBONE, 2, "imagenet"), images, FROZEN_PIXELS)[0]}


def _frozen_solar_cells() -> Arrays:
    images, labels = solar_cells()
    return {**_frozen(images), "y": labels}


def _frozen_fashion_mnist() -> Arrays:
    found: Arrays = {}
    for name, (images, labels) in fashion_mnist().items():
        found |= {f"{name}_f": _frozen(images)["f"], f"{name}_y": labels}
    return found


FROZEN: dict[str, Callable[[], Arrays]] = {
    "fashion": _frozen_fashion_mnist,
    "solar": _frozen_solar_cells,
    "photographs": lambda: _frozen(photographs()),
    "textiles": lambda: _frozen(textiles()),
}


def write_foreign(folder: Path) -> None:
    """Write the images that are foreign to ELPV as PNG files, each kind in a folder."""
    kinds = {"photographs": photographs(), "textiles": textiles(), "fashion": fashion_mnist()["test"][0]}
    for kind, images in kinds.items():
        (folder / kind).mkdir(parents=True)
        for number, image in enumerate(images):
            pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / kind / f"{number:04d}.png"), pixels)


if __name__ == "__main__":
    write_foreign(Path(sys.argv[1]))
