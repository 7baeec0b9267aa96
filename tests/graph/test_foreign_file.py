"""Reading ONNX files of other programs: data in a second file is taken in, or refused if it is anywhere else."""

import os

import numpy as np
import onnx
import pytest

from edgeclf.errors import ModelError
from edgeclf.graph.foreign_file import read_onnx
from tests.support.foreign import color_model


def with_external_data(folder, change=None):
    """Write a model whose weights are in model.data; ``change`` edits the entries of each."""
    model = onnx.load(color_model(folder / "plain.onnx"))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    if change:
        stored = onnx.load(folder / "model.onnx", load_external_data=False)
        for tensor in stored.graph.initializer:
            facts = {entry.key: entry.value for entry in tensor.external_data}
            facts.update(change)
            del tensor.external_data[:]
            for key, value in facts.items():
                tensor.external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(stored.SerializeToString())
    return folder / "model.onnx"


def test_data_next_to_the_model_becomes_part_of_it(tmp_path):
    read = read_onnx(with_external_data(tmp_path))
    plain = onnx.load(tmp_path / "plain.onnx")
    for found, expected in zip(read.graph.initializer, plain.graph.initializer, strict=True):
        assert found.data_location == found.DEFAULT
        assert (onnx.numpy_helper.to_array(found) == onnx.numpy_helper.to_array(expected)).all()


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "inner/model.data", "..", "", "a\\b"])
def test_data_anywhere_else_is_refused(tmp_path, location):
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    with pytest.raises(ModelError, match="only a file in the model's own folder is read"):
        read_onnx(with_external_data(tmp_path / "model", {"location": location}))


@pytest.mark.parametrize("kind", ["link", "pipe", "absent", "short"])
def test_data_that_is_no_whole_file_is_refused(tmp_path, kind):
    path = with_external_data(tmp_path)
    data = tmp_path / "model.data"
    held = data.read_bytes()
    data.unlink()
    if kind == "link":
        (tmp_path / "other").write_bytes(held)
        data.symlink_to(tmp_path / "other")
    elif kind == "pipe":
        os.mkfifo(data)
    elif kind == "short":
        data.write_bytes(held[:100])
    with pytest.raises(ModelError, match=r"cannot be read|ends too soon"):
        read_onnx(path)


@pytest.mark.parametrize("change", [{"offset": "-1"}, {"length": "-5"}, {"offset": "x"}, {"length": "9" * 30}])
def test_senseless_offsets_are_refused(tmp_path, change):
    with pytest.raises(ModelError, match=r"model.data"):
        read_onnx(with_external_data(tmp_path, change))


@pytest.mark.parametrize("cut", [0, 1, 100, -10])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, cut):
    path = color_model(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"m.onnx is not"):
        read_onnx(path)


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_are_refused_in_a_sentence(tmp_path, seed):
    random = np.random.default_rng(seed)
    (tmp_path / "m.onnx").write_bytes(random.bytes(random.integers(1, 2000)))
    with pytest.raises(ModelError, match=r"m.onnx is not"):
        read_onnx(tmp_path / "m.onnx")
