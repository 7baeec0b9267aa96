"""Training in 16 bits."""

import json

import edgeclf
from tests.support.training import quick, sha256


def test_16_bits_give_the_same_weights_each_time_but_not_those_of_float32(digits, tmp_path):
    found = []
    for name, compute in (("first", "mixed"), ("second", "mixed"), ("full", "float32")):
        edgeclf.train(digits, tmp_path / name, quick(finetune="full", epochs=1, workers=0, compute=compute))
        found.append(sha256(tmp_path / name))
    assert found[0] == found[1] != found[2]


def test_the_fastest_precision_is_measured_and_recorded(digits, tmp_path):
    edgeclf.train(digits, tmp_path / "run", quick(finetune="full", epochs=1, workers=0, compute="fastest"))
    decided = json.loads((tmp_path / "run" / "run.json").read_text())["decisions"]["network"]
    assert decided["precision"] in ("32-true", "bf16-mixed")
