"""Data sets of torch and of Hugging Face become files, without loss and once."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import FakeData, ImageFolder
from torchvision.transforms import v2

import edgeclf
from edgeclf import Dataset
from edgeclf.data.pixels import read_photo
from edgeclf.errors import DataError, DependencyError, OutputError
from tests.support.photos import picture, write_photos

NAMES = ["<b>cats & dogs</b>", "a/b", "été"]
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def fake(count=30, transform=None, classes=NAMES):
    """A data set of Pillow images of torchvision, with names if they are given."""
    made = FakeData(count, (3, 20, 30), 3, transform)
    if classes:
        made.classes = classes
    return made


def rgb(sample):
    return read_photo(sample.path)[:, :, ::-1]


def test_pillow_images_become_png_files_with_the_same_pixels(tmp_path):
    source = fake()
    dataset = Dataset.from_torch(source, tmp_path / "fake")
    assert dataset.labels == tuple(sorted(NAMES))
    assert sum(dataset.counts().values()) == 30
    for index, sample in enumerate(dataset.samples):
        image, target = source[index]
        assert np.array_equal(rgb(sample), np.asarray(image))
        assert sample.label == NAMES[target]
        assert sample.path.suffix == ".png"


@pytest.mark.parametrize("transform", [TO_TENSOR, v2.PILToTensor()], ids=["floats", "uint8"])
def test_tensors_of_eight_bits_come_out_exactly(tmp_path, transform):
    dataset = Dataset.from_torch(fake(transform=transform), tmp_path / "fake")
    for (image, _), sample in zip(fake(), dataset.samples, strict=True):
        assert np.array_equal(rgb(sample), np.asarray(image))


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            v2.Compose([TO_TENSOR, v2.Normalize([0.5] * 3, [0.5] * 3)]),
            r"torch.float32 from -1 to 1; uint8, or floats that",
        ),
        (v2.Compose([TO_TENSOR, v2.Resize(11)]), r"torch.float32 from .* leave its transforms out"),
        (np.asarray, "is a ndarray; a Pillow image or a tensor .* PIL.Image.fromarray"),
        (
            lambda image: TO_TENSOR(image).permute(1, 2, 0),
            r"is a tensor \[20, 30, 3\]; .* channels come first in torch",
        ),
        (lambda image: torch.zeros(0, 3), r"is a tensor \[0, 3\]"),
    ],
    ids=["normalized", "resized", "array", "channels last", "empty"],
)
def test_what_would_lose_something_is_refused_and_nothing_is_left(tmp_path, transform, message):
    with pytest.raises(DataError, match=f"^image 0 .*{message}"):
        Dataset.from_torch(fake(transform=transform), tmp_path / "fake")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(tmp_path):
    Image.fromarray(picture(1)).save(tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:-30])
    with pytest.raises(edgeclf.ImageError, match=r"^image 0: Pillow cannot read it .*truncated"):
        Dataset.from_torch([(Image.open(tmp_path / "photo.jpg"), 0)], tmp_path / "new", labels=["a"])


def test_a_tensor_dataset_needs_the_names_of_its_labels(tmp_path):
    images = torch.randint(0, 256, (12, 1, 9, 8), dtype=torch.uint8)
    source = TensorDataset(images, torch.arange(12) % 2)
    with pytest.raises(
        DataError, match=r"image 0 has the target 0, but .* pass labels=\[\.\.\.\], the names in the order"
    ):
        Dataset.from_torch(source, tmp_path / "tensors")
    dataset = Dataset.from_torch(source, tmp_path / "tensors", labels=["even", "odd"])
    assert [sample.label for sample in dataset.samples[:3]] == ["even", "odd", "even"]
    assert np.array_equal(rgb(dataset.samples[3])[:, :, 0], images[3, 0].numpy())
    with pytest.raises(DataError, match="image 2 has the target 2; 0 to 1 were expected"):
        Dataset.from_torch(TensorDataset(images, torch.arange(12)), tmp_path / "more", labels=["even", "odd"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["a", "a", "b"], "two labels called 'a'"), ([], "no names"), ({0: "a"}, "0 to 0 were expected")],
)
def test_names_must_be_one_for_each_label(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(fake(), tmp_path / "fake", labels=labels)


def test_parts_are_splits(tmp_path):
    dataset = Dataset.from_torch({"train": fake(12), "validation": fake(9), "test": fake(6)}, tmp_path / "fake")
    assert dataset.counts() == {"train": 12, "val": 9, "test": 6}
    assert dataset.divided_by is None
    # Data that has only a training part is split as if it had none.
    assert Dataset.from_torch({"train": fake(40)}, tmp_path / "train").counts()["test"] > 0
    with pytest.raises(DataError, match=r"has the parts train, extra; one for each of train, validation and test"):
        Dataset.from_torch({"train": fake(), "extra": fake()}, tmp_path / "extra")


def test_the_folder_is_written_once(tmp_path):
    first = Dataset.from_torch(fake(), tmp_path / "fake")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "fake").rglob("*.png")}
    assert Dataset.from_torch(fake(), tmp_path / "fake") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "fake").rglob("*.png")} == written
    with pytest.raises(
        OutputError, match="fake was made from other images: choose another folder, or pass overwrite=True"
    ):
        Dataset.from_torch(fake(31), tmp_path / "fake")
    with pytest.raises(OutputError, match="was made from other images"):
        Dataset.from_torch(fake(classes=["a", "b", "c"]), tmp_path / "fake")
    assert len(Dataset.from_torch(fake(31), tmp_path / "fake", overwrite=True).samples) == 31


def test_a_folder_of_somebody_else_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError):
            Dataset.from_torch(fake(), tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_folder_is_a_data_set_for_every_command(command, tmp_path):
    dataset = Dataset.from_torch(fake(60), tmp_path / "fake")
    assert edgeclf.load_dataset(tmp_path / "fake") == dataset
    assert Dataset.from_folder(tmp_path / "fake") == dataset
    code, out, _ = command("check", tmp_path / "fake", "--json")
    assert code == 0
    assert set(json.loads(out)["labels"]) == set(NAMES)


def test_a_damaged_record_is_one_sentence(tmp_path):
    Dataset.from_torch(fake(), tmp_path / "fake")
    (tmp_path / "fake" / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match=r"dataset.json is damaged .* pass overwrite=True to write it again"):
        Dataset.from_torch(fake(), tmp_path / "fake")


def test_an_image_folder_is_used_where_it_is_whatever_its_transforms(tmp_path):
    write_photos(tmp_path / "photos", [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(9)])
    source = ImageFolder(tmp_path / "photos", v2.Compose([TO_TENSOR, v2.RandomCrop(8)]))
    dataset = Dataset.from_torch(source, seed=3)
    expected = Dataset.from_folder(tmp_path / "photos", seed=3)
    assert (dataset.labels, dataset.samples, dataset.root) == (expected.labels, expected.samples, expected.root)
    part = Dataset.from_torch({"train": Subset(source, range(0, 18, 2)), "test": Subset(source, [1, 17])})
    assert [sample.label for sample in part.samples if sample.split == "test"] == ["cat", "dog"]
    assert list(tmp_path.iterdir()) == [tmp_path / "photos"]


def test_other_data_needs_a_folder(tmp_path):
    with pytest.raises(DataError, match="not files: pass folder="):
        Dataset.from_torch(fake())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (iter([]), "found list_iterator; a torch data set with a length"),
        (TensorDataset(torch.zeros(3, 3, 8, 8, dtype=torch.uint8)), "image 0 has 1 values; a pair of image and label"),
        (TensorDataset(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 2)), "image 0 has the target tensor"),
        ([], "has no images"),
    ],
    ids=["an iterator", "no labels", "several labels", "empty"],
)
def test_what_is_no_data_set_is_refused(tmp_path, source, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(source, tmp_path / "new", labels=["a"])


# Hugging Face


@pytest.fixture
def photos(tmp_path):
    """Files of several formats: 4 of each label, one of them a GIF."""
    names = [
        f"{label}/{number}{suffix}"
        for label in ("cat", "dog")
        for number, suffix in enumerate((".jpg", ".png", ".webp"))
    ]
    write_photos(tmp_path / "photos", names)
    for label in ("cat", "dog"):
        Image.fromarray(picture(len(label))).save(tmp_path / "photos" / label / "3.gif")
    return tmp_path / "photos"


@pytest.fixture
def hub(photos):
    """A Hugging Face data set of these files."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    paths = sorted(photos.rglob("*.*"))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES[:2]), "n": datasets.Value("int64")}
    )
    rows = {
        "image": list(map(str, paths)),
        "label": [int(path.parent.name == "dog") for path in paths],
        "n": [0] * len(paths),
    }
    return datasets.Dataset.from_dict(rows, features)


def test_a_hugging_face_data_set_keeps_its_files(photos, hub, tmp_path):
    dataset = Dataset.from_huggingface(hub, tmp_path / "hub")
    files = sorted(photos.rglob("*.*"))
    assert dataset.labels == tuple(sorted(NAMES[:2]))
    for sample, file in zip(dataset.samples, files, strict=True):
        assert sample.label == NAMES[int(file.parent.name == "dog")]
        if file.suffix == ".gif":
            assert np.array_equal(rgb(sample), np.asarray(Image.open(file).convert("RGB")))
        else:
            assert (sample.path.read_bytes(), sample.path.suffix) == (file.read_bytes(), file.suffix)
    assert Dataset.from_huggingface(hub, tmp_path / "hub") == dataset


def test_images_in_the_table_itself_are_written_too(hub, tmp_path):
    import datasets

    pixels = [Image.fromarray(picture(number)) for number in range(6)]
    held = datasets.Dataset.from_dict(
        {"picture": pixels, "kind": [0, 1] * 3},
        datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])}),
    ).with_format("torch")
    dataset = Dataset.from_huggingface(held, tmp_path / "held")
    for sample, image in zip(dataset.samples, pixels, strict=True):
        assert np.array_equal(rgb(sample), np.asarray(image))


def test_the_parts_of_a_dictionary_are_splits(hub, tmp_path):
    import datasets

    parts = datasets.DatasetDict({"train": hub, "validation": hub.select([0, 7]), "test": hub.select([1, 6, 7])})
    assert Dataset.from_huggingface(parts, tmp_path / "hub").counts() == {"train": 8, "val": 2, "test": 3}


def test_columns_that_are_not_clear_must_be_named(hub, tmp_path):
    import datasets

    twice = hub.add_column("other", hub["label"]).cast_column("other", datasets.ClassLabel(names=["x", "y"]))
    with pytest.raises(
        DataError,
        match=r"columns image \(Image\), label \(ClassLabel\), n \(Value\), other \(ClassLabel\); 2 are of type ClassLabel: pass label=",
    ):
        Dataset.from_huggingface(twice, tmp_path / "hub")
    assert Dataset.from_huggingface(twice, tmp_path / "hub", label="other").labels == ("x", "y")
    with pytest.raises(DataError, match="'n' is not a column of type Image: pass image=COLUMN"):
        Dataset.from_huggingface(hub, tmp_path / "new", image="n")
    with pytest.raises(DataError, match=r"image 0 has the target 0, but .* pass labels="):
        Dataset.from_huggingface(hub, tmp_path / "new", label="n")
    assert Dataset.from_huggingface(hub, tmp_path / "new", label="n", labels=["one"]).labels == ("one",)


def test_images_without_a_label_are_refused(hub, tmp_path):
    import datasets

    features = hub.features
    hidden = datasets.Dataset.from_dict({"image": hub["image"], "label": [-1] * 8, "n": [0] * 8}, features)
    with pytest.raises(DataError, match=r"image 0 of test has the target -1; .* leave this part out"):
        Dataset.from_huggingface({"train": hub, "test": hidden}, tmp_path / "hub")


def test_a_stream_or_something_else_is_refused(hub, tmp_path):
    with pytest.raises(DataError, match=r"is a stream, .* without streaming=True"):
        Dataset.from_huggingface(hub.to_iterable_dataset(), tmp_path / "hub")
    with pytest.raises(DataError, match=r"found str; a Dataset or DatasetDict .* datasets\.load_dataset\(NAME\)"):
        Dataset.from_huggingface("beans", tmp_path / "hub")


def test_without_the_library_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(DependencyError, match="python3 -m pip install datasets"):
        Dataset.from_huggingface(None, tmp_path)


# Every command


def test_every_command_takes_a_dataset(run, digits, tmp_path):
    dataset = Dataset.from_torch(ImageFolder(digits))
    assert edgeclf.check(dataset).images == 180
    assert edgeclf.calibrate(dataset, tmp_path / "set", size=60).images == 60
    assert edgeclf.evaluate(run, dataset, split="all").accuracy > 0.8


def test_a_dataset_is_shown_as_a_table(digits):
    dataset = Dataset.from_folder(digits)
    assert (
        repr(dataset)
        == f"Dataset({str(digits)!r}, 3 labels, " + ", ".join(f"{n} {s}" for s, n in dataset.counts().items()) + ")"
    )
    assert "<td>3</td>" in dataset._repr_html_()
    assert str(digits) in dataset._repr_html_()


def test_a_folder_and_a_file_must_be_there(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Dataset.from_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere\.csv is not a file"):
        Dataset.from_csv(tmp_path / "nowhere.csv")
    write_photos(tmp_path, [f"{label}{number}.png" for label in "ab" for number in range(9)])
    (tmp_path / "list.csv").write_text(
        "path,label\n" + "".join(f"{path.name},{path.name[0]}\n" for path in tmp_path.glob("*.png"))
    )
    assert Dataset.from_csv(tmp_path / "list.csv", test=0.3).labels == ("a", "b")
    with pytest.raises(edgeclf.OptionError, match="there is no option 'tset'; did you mean test"):
        Dataset.from_csv(tmp_path / "list.csv", tset=0.3)
