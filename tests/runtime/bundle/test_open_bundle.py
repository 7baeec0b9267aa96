import json
import os
import shutil

import pytest

from edgeclf_runtime.bundle.open_bundle import FORMAT_VERSION, OLDEST_FORMAT_VERSION, open_bundle
from edgeclf_runtime.errors import BundleError
from edgeclf_runtime.files.read import sha256_file
from tests.support.sealing import before_features, flip_byte, reseal


def refusal(path):
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


def files_of(bundle):
    return sorted(path for path in bundle.rglob("*") if path.is_file())


def test_a_bundle_has_the_content_of_its_manifest(bundle):
    opened = open_bundle(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert list(opened.labels) == manifest["labels"]
    assert [model.name for model in opened.models] == [model["name"] for model in manifest["models"]]
    assert opened.preprocessing._asdict() == manifest["preprocessing"]
    assert opened.id == sha256_file(bundle / "manifest.json")
    assert str(opened.file("golden/expected.json")) == str(bundle / "golden" / "expected.json")


@pytest.mark.slow
def test_a_changed_byte_in_any_file_is_found(copied):
    for path in files_of(copied):
        for at in {0, path.stat().st_size // 2, path.stat().st_size - 1} if path.stat().st_size else ():
            flip_byte(path, at)
            assert path.relative_to(copied).as_posix() in refusal(copied)
            flip_byte(path, at)
    open_bundle(copied)


def test_every_byte_of_the_manifests_hash_counts(copied):
    path = copied / "manifest.sha256"
    for at in range(path.stat().st_size):
        flip_byte(path, at)
        assert "manifest.sha256" in refusal(copied)
        flip_byte(path, at)


def test_a_file_that_grew_or_shrank_is_named(copied):
    with (copied / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert "model.fp32.onnx has" in refusal(copied)


@pytest.mark.slow
def test_every_missing_file_is_named(copied):
    for path in files_of(copied):
        path.rename(copied.parent / "away")
        message = refusal(copied)
        assert path.name in message
        assert "missing" in message
        assert "copy the bundle again" in message
        (copied.parent / "away").rename(path)


def test_a_file_that_was_added_is_named(copied):
    (copied / "golden" / "._000.png").write_text("")
    assert "golden/._000.png does not belong to it; remove what was added" in refusal(copied)


@pytest.mark.parametrize("folder", ["golden/__pycache__", "json", "golden/more"])
def test_a_folder_that_was_added_is_refused_even_if_it_is_empty(copied, folder):
    (copied / folder).mkdir()
    assert f"{folder} (a folder) does not belong to it" in refusal(copied)
    (copied / folder / "errors.cpython-36.pyc").write_bytes(b"")
    assert f"{folder} (a folder) does not belong to it" in refusal(copied)


def test_a_folder_that_is_a_link_is_refused(copied, tmp_path):
    (tmp_path / "json").mkdir()
    (copied / "json").symlink_to(tmp_path / "json")
    assert "json (a link) does not belong to it" in refusal(copied)
    (copied / "json").unlink()
    (copied / "golden").rename(tmp_path / "golden")
    (copied / "golden").symlink_to(tmp_path / "golden")
    assert "golden is a link, a folder was expected" in refusal(copied)


@pytest.mark.parametrize("name", ["model.fp32.onnx", "edgeclf_runtime/py.typed", "golden/000.png"])
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkdir, "a folder"),
        (os.mkfifo, "a pipe"),
        (lambda path: os.symlink("nowhere", path), "a link"),
        (lambda path: os.symlink("/dev/zero", path), "a link"),
        (lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)), "a device or a socket"),
    ],
    ids=["folder", "pipe", "dead link", "link to a device", "device"],
)
def test_anything_but_a_regular_file_is_refused(copied, name, make, kind):
    (copied / name).unlink()
    try:
        make(str(copied / name))
    except PermissionError:
        pytest.skip("making a device needs root")
    assert f"{name} is {kind}, a regular file was expected" in refusal(copied)


def test_a_link_to_the_right_bytes_is_refused(copied):
    for name in ("model.fp32.onnx", "manifest.json", "manifest.sha256"):
        (copied / name).rename(copied.parent / "moved")
        (copied / name).symlink_to(copied.parent / "moved")
        assert "it is a link" in refusal(copied) or f"{name} is a link" in refusal(copied)
        (copied / name).unlink()
        (copied.parent / "moved").rename(copied / name)
    open_bundle(copied)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_a_manifest_that_is_not_a_file_is_unreadable(copied, make):
    (copied / "manifest.json").unlink()
    make(str(copied / "manifest.json"))
    assert "manifest.json is missing or unreadable" in refusal(copied)


def test_a_file_is_compared_again_whenever_it_is_read(copied):
    file = open_bundle(copied).file("model.fp32.onnx")
    assert file.read() == (copied / "model.fp32.onnx").read_bytes()
    flip_byte(copied / "model.fp32.onnx", 1000)
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx was changed"):
        file.read()


@pytest.mark.parametrize(
    ("version", "by", "remedy"),
    [
        (FORMAT_VERSION + 1, "a newer edgeclf", "upgrade edgeclf"),
        (OLDEST_FORMAT_VERSION - 1, "an older edgeclf", "make it again with edgeclf bundle"),
    ],
)
def test_a_newer_or_older_format_says_how_to_run_it(copied, version, by, remedy):
    reseal(copied, lambda manifest: manifest.update(format_version=version, models="of another kind"))
    message = refusal(copied)
    assert (
        f"was made by {by}: it has bundle format {version}, and this runtime reads formats 2 to 3: use the" in message
    )
    assert message.endswith(remedy)


def test_a_bundle_of_format_2_without_features_is_still_read(copied):
    (features,) = {model.features for model in open_bundle(copied).models}
    assert features > 0
    reseal(copied, before_features)
    opened = open_bundle(copied)
    assert {model.features for model in opened.models} == {None}
    assert opened.model("fp32").tolerance("opencv").features is None


def test_another_format_is_refused(copied):
    reseal(copied, lambda manifest: manifest.update(format="tarball"))
    assert "its format is 'tarball', 'edgeclf-bundle' was expected" in refusal(copied)


def test_a_file_outside_of_the_bundle_is_never_opened(copied):
    for name in ("/etc/passwd", "../other", "golden/../../other", "..\\other"):
        reseal(copied, lambda manifest, name=name: manifest["files"].update({name: {"size": 0, "sha256": ""}}))
        assert "is outside of the bundle" in refusal(copied)
        reseal(copied, lambda manifest, name=name: manifest["files"].pop(name))


def test_preprocessing_that_this_runtime_does_not_support_is_refused(copied):
    reseal(copied, lambda manifest: manifest["preprocessing"].update(resize="seam-carving"))
    assert "this runtime supports crop, stretch, letterbox; upgrade edgeclf" in refusal(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("labels"),
        lambda manifest: manifest.update(labels=[]),
        lambda manifest: manifest.update(files=7),
        lambda manifest: manifest.update(format_version="1"),
        lambda manifest: manifest["order"].pop("default"),
        lambda manifest: manifest["models"][0].update(file="../model.onnx"),
        lambda manifest: manifest["models"][0].update(temperature=0),
        lambda manifest: manifest["models"][0].update(hue="blue"),
        lambda manifest: manifest["models"][0].update(features=0),
        lambda manifest: manifest["preprocessing"].update(height="64"),
    ],
)
def test_a_missing_or_garbled_field_is_reported_without_a_traceback(copied, change):
    reseal(copied, change)
    assert "make the bundle again" in refusal(copied)


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 100000], ids=["empty", "list", "cut off", "no text", "deep"]
)
def test_a_manifest_that_is_not_a_json_object_is_reported_without_a_traceback(copied, data):
    (copied / "manifest.json").write_bytes(data)
    digest = sha256_file(copied / "manifest.json")
    (copied / "manifest.sha256").write_text(digest + "  manifest.json\n")
    assert "make the bundle again" in refusal(copied)


def test_a_path_that_is_not_a_bundle_says_how_to_make_one(tmp_path):
    for path in (tmp_path / "gone.edge", __file__):
        assert "edgeclf bundle RUN --output NAME.edge" in refusal(path)
    assert "is not a complete bundle: manifest.json is missing" in refusal(tmp_path)


def test_a_bundle_may_be_anywhere(copied):
    home = copied.parent / "mit Leerzeichen \u00fc\u4e2d"
    home.mkdir()
    shutil.move(str(copied), str(home / "zelle.edge"))
    (home / "current").symlink_to("zelle.edge")
    for path in (home / "zelle.edge", str(home / "zelle.edge") + "/", home / "current"):
        assert open_bundle(path).labels


def test_an_unknown_model_name_lists_the_known_ones(bundle):
    with pytest.raises(BundleError, match=r"holds no model 'fp64'; it holds .*fp32"):
        open_bundle(bundle).model("fp64")


def test_models_come_in_the_order_for_the_machine(copied):
    reseal(copied, lambda manifest: manifest["order"].update(toaster=["fp32"]))
    opened = open_bundle(copied)
    assert [model.name for model in opened.in_order("toaster")] == ["fp32"]
    assert [model.name for model in opened.in_order("abacus")] == opened.order["default"]
