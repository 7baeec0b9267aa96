"""Damaged and hostile bundles: a small run of the attack program, whose full run is in benchmarks/reliability."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "reliability"))

import bundle_changes
import bundles
from small_bundle import make_small_bundle, seal

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.golden import read_golden
from edgeclf_runtime.errors import BundleError


@pytest.mark.slow
def test_every_kind_of_damage_is_refused_in_one_sentence():
    report = bundles.attack(count=120, seed=11, commands=3)
    assert report["wrong"] == []
    assert set(report["outcomes"]) == {change.kind for change in bundle_changes.CHANGES}


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.edge"
    make_small_bundle(path)
    return path


def test_a_value_of_another_kind_is_one_sentence_whatever_the_field(small):
    content = json.loads((small / "manifest.json").read_text())
    for where in bundle_changes._nodes(content):
        # A list of one of the file's facts tells as much as all of them.
        if where[0] == "files" and len(where) > 1 and where[1] != "__main__.py":
            continue
        changed = json.loads(json.dumps(content))
        bundle_changes._parent(changed, where)[where[-1]] = {"x": ["\x1b[31m"]}
        seal(small, changed)
        with pytest.raises(BundleError) as caught:
            open_bundle(small)
        assert str(caught.value).count("\n") == 0
        assert "\x1b" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"images": ["../../x"], "logits": {}}', '{"images": 1, "logits": NaN}']
)
def test_a_golden_file_that_is_not_as_declared_is_one_sentence(small, content):
    bundle_changes._write(small, "golden/expected.json", content.encode())
    with pytest.raises(BundleError, match=r"golden/expected\.json: .*; make the bundle again"):
        read_golden(open_bundle(small))


def test_golden_images_are_files_of_the_bundle(small):
    golden = json.loads((small / "golden" / "expected.json").read_text())
    golden["images"][0] = "golden/999.png"
    bundle_changes._write(small, "golden/expected.json", json.dumps(golden).encode())
    from edgeclf_runtime.classify.golden import golden_images

    with pytest.raises(BundleError, match=r"does not list the file 'golden/999\.png'"):
        golden_images(open_bundle(small))
