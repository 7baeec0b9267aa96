"""Public data sets: their authors' files, unpacked once; nothing is downloaded unasked, unpickled or extracted."""

import gzip
import hashlib
import io
import json
import pickle
import re
import shutil
import tarfile

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.data.datasets import load_dataset
from edgeclf.data.public_sets import fashion_mnist
from edgeclf.data.public_sets.public_set import stored_png
from edgeclf.errors import DataError
from tests.support.http_servers import HttpServer, response
from tests.support.pages import ROOT, command_lines
from tests.support.photos import picture
from tests.support.public_sets import (
    CIFAR_BINARY,
    CIFAR_CLASSES,
    CIFAR_PYTHON,
    cifar_batches,
    cifar_record,
    idx,
    python2_pickle,
    write_cifar,
    write_fashion,
)

RAW = "FashionMNIST/raw"


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty folder of data sets, without Debian's package, and with the hashes of our small batches."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setenv("EDGECLF_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", tmp_path / "debian")
    hashes = {name: md5(python2_pickle(*batch)) for name, batch in cifar_batches().items()}
    for attribute in ("train_list", "test_list"):
        known = [[name, hashes[name]] for name, _ in getattr(CIFAR10, attribute)]
        monkeypatch.setattr(CIFAR10, attribute, known)
    return tmp_path / "sets"


def known(dataset):
    """Label, split and hash of each image."""
    hashes = dataset.sha256(dataset.samples)
    return {(sample.label, sample.split, digest) for sample, digest in zip(dataset.samples, hashes, strict=True)}


# CIFAR-10


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [CIFAR_PYTHON, CIFAR_BINARY])
def test_cifar10_has_the_pixels_labels_and_splits_of_its_files(home, version, packed):
    batches = write_cifar(home, version, packed)
    dataset = load_dataset("cifar10")
    assert (dataset.name, dataset.labels) == ("cifar10", tuple(CIFAR_CLASSES))
    assert dataset.counts()["test"] == 10
    assert dataset.counts()["train"] + dataset.counts()["val"] == 50
    expected = {
        (CIFAR_CLASSES[label], name == "test_batch", pixels.transpose(1, 2, 0).tobytes())
        for name, (all_pixels, labels) in batches.items()
        for pixels, label in zip(all_pixels, labels, strict=True)
    }
    found = {
        (sample.label, sample.split == "test", cv2.imread(str(sample.path))[:, :, ::-1].tobytes())
        for sample in dataset.samples
    }
    assert found == expected


def test_both_versions_of_cifar10_give_the_same_split(home, tmp_path, monkeypatch):
    write_cifar(home, CIFAR_PYTHON)
    first = known(load_dataset("cifar10"))
    monkeypatch.setenv("EDGECLF_DATA", str(tmp_path / "other"))
    write_cifar(tmp_path / "other", CIFAR_BINARY, packed=True)
    assert known(load_dataset("cifar10")) == first
    assert {split for _, split, _ in first} == {"train", "val", "test"}


def test_a_set_is_unpacked_once(home):
    write_cifar(home)
    first = load_dataset("cifar10")
    shutil.rmtree(home / CIFAR_PYTHON)
    assert load_dataset("cifar10") == first


def test_images_that_an_earlier_version_unpacked_are_used(home, digits):
    for number, path in enumerate(sorted(digits.rglob("*.png"))[:20]):
        place = home / "cifar10" / ("test" if number % 2 else "train") / "dog" / f"{number:05d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    dataset = load_dataset("cifar10")
    assert (dataset.name, dataset.labels, dataset.counts()["test"]) == ("cifar10", ("dog",), 10)


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_a_set_that_is_not_there_says_what_to_put_where(home, name):
    with pytest.raises(DataError) as raised:
        load_dataset(name)
    assert re.search(rf"is not on this machine: put .*(tar.gz|{RAW}).* into {home}", str(raised.value))
    assert f"or download it: edgeclf check {name} --download" in str(raised.value)
    assert not home.exists()


class Evil:
    def __reduce__(self):
        return exec, ("open('ran', 'w')",)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_pickle_never_runs_code(home, tmp_path, monkeypatch, trusted):
    from torchvision.datasets import CIFAR10

    write_cifar(home)
    evil = pickle.dumps({"data": Evil(), "labels": []})
    (home / CIFAR_PYTHON / "data_batch_1").write_bytes(evil)
    if trusted:  # as if torchvision knew it
        monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", md5(evil)], *CIFAR10.train_list[1:]])
    monkeypatch.chdir(tmp_path)
    message = r"it names builtins.exec" if trusted else r"its MD5 is not [0-9a-f]{32}"
    with pytest.raises(DataError, match=rf"data_batch_1 is damaged \({message}\): fetch the files again"):
        load_dataset("cifar10")
    assert not (tmp_path / "ran").exists()
    assert not (home / "cifar10").exists()


def test_a_pickle_of_numpy_2_is_read_too(home, monkeypatch):
    from torchvision.datasets import CIFAR10

    batches = write_cifar(home)
    for attribute in ("train_list", "test_list"):
        known = []
        for name, _ in getattr(CIFAR10, attribute):
            pixels, labels = batches[name]
            data = pickle.dumps({"data": pixels.reshape(len(pixels), -1), "labels": labels}, protocol=4)
            (home / CIFAR_PYTHON / name).write_bytes(data)
            known.append([name, md5(data)])
        monkeypatch.setattr(CIFAR10, attribute, known)
    assert len(load_dataset("cifar10").samples) == 60


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes; a multiple of 3073 was expected"),
        (b"\0" * 3072, "3072 bytes; a multiple of 3073"),
        (cifar_record(np.zeros((2, 3, 32, 32), np.uint8), [3, 10]), "2 images and 2 labels from 0 to 10"),
    ],
)
def test_a_binary_batch_that_is_damaged_is_named(home, data, message):
    write_cifar(home, CIFAR_BINARY)
    (home / CIFAR_BINARY / "data_batch_3.bin").write_bytes(data)
    with pytest.raises(DataError, match=rf"data_batch_3.bin is damaged \({message}"):
        load_dataset("cifar10")


@pytest.mark.parametrize("kind", ["short", "other", "link", "large"])
def test_an_archive_that_is_damaged_is_refused_and_never_extracted(home, kind):
    home.mkdir()
    archive = home / "cifar-10-binary.tar.gz"
    if kind == "short":
        write_cifar(home, CIFAR_BINARY, packed=True)
        archive.write_bytes(archive.read_bytes()[:2000])
    else:
        with tarfile.open(archive, "w:gz") as file:
            entry = tarfile.TarInfo(f"{CIFAR_BINARY}/data_batch_1.bin" if kind != "other" else "../evil")
            entry.size = {"large": 100 << 20}.get(kind, 0)
            if kind == "link":
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(entry, io.BytesIO(b"\0" * entry.size))
    with pytest.raises(DataError, match=r"cifar-10-binary.tar.gz is damaged \(.+\): fetch the files again"):
        load_dataset("cifar10")
    assert [path.name for path in home.iterdir()] == [archive.name]


# Fashion-MNIST


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_has_the_pixels_labels_and_splits_of_its_files(home, packed):
    from torchvision.datasets import FashionMNIST

    parts = write_fashion(home / RAW, packed=packed)
    dataset = load_dataset("fashion-mnist")
    assert set(dataset.labels) == set(FashionMNIST.classes)
    expected = {
        (FashionMNIST.classes[label], split == "test", pixels.tobytes())
        for split, (all_pixels, labels) in parts.items()
        for pixels, label in zip(all_pixels, labels, strict=True)
    }
    found = {
        (sample.label, sample.split == "test", cv2.imread(str(sample.path), cv2.IMREAD_UNCHANGED).tobytes())
        for sample in dataset.samples
    }
    assert found == expected
    assert dataset.counts() == {"train": 40 - dataset.counts()["val"], "val": dataset.counts()["val"], "test": 40}


def test_fashion_mnist_of_debian_is_found(home, tmp_path):
    write_fashion(tmp_path / "debian")
    assert len(load_dataset("fashion-mnist").samples) == 80


def test_a_label_with_a_slash_is_kept(home):
    write_fashion(home / RAW)
    [folder] = {sample.path.parent.name for sample in load_dataset("fashion-mnist").samples if "/" in sample.label}
    assert folder == "T-shirt_top"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train-images-idx3-ubyte", b"", "0 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros((40, 28, 28), np.uint8))[:-1], "31375 bytes"),
        ("train-images-idx3-ubyte", idx(np.zeros(40, np.uint8)), "are not an IDX file of this kind"),
        ("t10k-labels-idx1-ubyte", idx(np.zeros(39, np.uint8)), "40 images of t10k and 39 labels from 0 to 0"),
        ("t10k-labels-idx1-ubyte", idx(np.full(40, 10, np.uint8)), "40 labels from 0 to 10"),
        ("t10k-labels-idx1-ubyte", bytes([0, 0, 8, 1, 255, 255, 255, 255]), "8 bytes"),
        ("t10k-labels-idx1-ubyte.gz", b"\x1f\x8b\x08", "it ends early"),
        ("t10k-labels-idx1-ubyte.gz", b"text", "incorrect header check"),
    ],
)
def test_a_file_of_fashion_mnist_that_is_damaged_is_named(home, name, data, message):
    write_fashion(home / RAW, packed=name.endswith(".gz"))
    (home / RAW / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        load_dataset("fashion-mnist")
    assert not (home / "fashion-mnist").exists()


def test_a_file_that_unpacks_to_too_much_is_refused(home, monkeypatch):
    write_fashion(home / RAW)
    (home / RAW / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    monkeypatch.setattr(fashion_mnist, "_MOST_BYTES", 100_000)
    with pytest.raises(DataError, match="it ends early, or holds too much"):
        load_dataset("fashion-mnist")


# The images


@pytest.mark.parametrize("shape", [(28, 28), (32, 32, 3), (1, 5)])
def test_a_stored_png_has_the_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = cv2.imdecode(np.frombuffer(stored_png(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found[:, :, ::-1] if len(shape) == 3 else found, pixels)


def test_a_stored_png_has_the_same_bytes_with_every_library():
    # The split goes by the hash of the file, so a new zlib must not change it.
    digest = hashlib.sha256(stored_png(picture(0))).hexdigest()
    assert digest == "5f93ba39461b1bd7114be20fd2082ae98742d84c163999047b4aa36aca2cfd76"


# Downloads


@pytest.fixture
def mirror(home, tmp_path, monkeypatch):
    """A server that has the files of both sets; torchvision's addresses and hashes are those of it."""
    from torchvision.datasets import CIFAR10, FashionMNIST

    write_fashion(tmp_path / "server")
    write_cifar(tmp_path / "server", packed=True)
    files = {path.name: path.read_bytes() for path in (tmp_path / "server").iterdir()}
    with HttpServer(lambda path, _: answer(files, path)) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [server.uri("/")])
        names = [name for name, _ in FashionMNIST.resources]
        monkeypatch.setattr(FashionMNIST, "resources", [(name, md5(files[name])) for name in names])
        monkeypatch.setattr(CIFAR10, "url", server.uri("/cifar-10-python.tar.gz"))
        monkeypatch.setattr(CIFAR10, "tgz_md5", md5(files["cifar-10-python.tar.gz"]))
        server.files = files
        yield server


def answer(files, path):
    data = files.get(path.lstrip("/"))
    return response(b"", status="404 Not Found") if data is None else response(data, "application/octet-stream")


@pytest.mark.parametrize(("name", "images"), [("cifar10", 60), ("fashion-mnist", 80)])
def test_a_set_is_downloaded_only_if_asked_and_once(mirror, name, images):
    with pytest.raises(DataError, match="is not on this machine"):
        load_dataset(name)
    assert mirror.requests == []
    assert len(load_dataset(name, download=True).samples) == images
    asked = len(mirror.requests)
    assert asked
    load_dataset(name, download=True)
    assert len(mirror.requests) == asked


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
@pytest.mark.parametrize("fault", ["changed", "gone"])
def test_a_download_that_fails_leaves_nothing(mirror, home, name, fault):
    file = {"cifar10": "cifar-10-python.tar.gz", "fashion-mnist": "train-images-idx3-ubyte.gz"}[name]
    if fault == "changed":
        mirror.files[file] += b"more"
    else:
        del mirror.files[file]
    message = "File not found or corrupted" if fault == "changed" else "HTTP Error 404"
    with pytest.raises(DataError, match=rf"could not be downloaded \({message}.*\): try again, or put"):
        load_dataset(name, download=True)
    assert not [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("verb", ["check", "augment"])
def test_commands_download_if_asked(mirror, command, tmp_path, verb):
    output = ["--output", tmp_path / "page.png", "--image-size", 32] if verb == "augment" else []
    code, _, err = command(verb, "fashion-mnist", "--download", *output)
    assert code == 0
    assert "fetching Fashion-MNIST" in err


def test_the_list_says_which_sets_are_here(home, command):
    write_fashion(home / RAW)
    out = " ".join(command("list", "datasets")[1].split())
    assert "cifar10 60,000 images: animals and vehicles, 32 x 32, 10 labels (not on this machine)" in out
    assert "fashion-mnist 70,000 images: clothes, gray, 28 x 28, 10 labels (here)" in out


def test_a_public_set_is_a_name_wherever_data_is_taken(home, tmp_path):
    write_fashion(home / RAW)
    edgeclf.augment("fashion-mnist", tmp_path / "page.png", image_size=32)
    assert edgeclf.check("fashion-mnist").images == 80


def test_the_recipe_of_the_documentation_trains_on_cifar10(home, command, tmp_path, monkeypatch):
    write_cifar(home)
    [line] = [line for line in command_lines(ROOT / "docs/commands.md") if line.startswith("edgeclf train cifar10")]
    # A smaller network, and fewer epochs; the rest as it is written.
    line = line.replace("resnet18", "test_resnet").replace("--epochs 30", "--epochs 1")
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*line.split()[1:])
    assert code == 0, err
    facts = json.loads((tmp_path / "runs/cifar10/run.json").read_text())
    assert (facts["options"]["crop_padding"], facts["options"]["stem_stride"]) == (4, 1)
