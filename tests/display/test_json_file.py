"""Every JSON file that the host writes is JSON: numbers that are not finite are null."""

import json
import math
import re
from pathlib import Path

import edgeclf
from edgeclf.display.json_file import json_text, write_json

# Hashes and comparisons in memory; nothing of them is written.
NOT_WRITTEN = {
    "data/conversion/image_folder.py": 1,
    "data/pixels.py": 1,
    "deployment/make.py": 2,
    "training/dry_run/passes.py": 2,
    "training/train.py": 2,
    "training/unfinished.py": 1,
}


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def test_numbers_that_are_not_finite_are_null(tmp_path):
    value = {"a": math.nan, "b": [math.inf, (-math.inf, 1.5)], 3: {"c": math.nan}, "path": Path("x")}
    expected = {"a": None, "b": [None, [None, 1.5]], "3": {"c": None}, "path": "x"}
    assert json.loads(json_text(value), parse_constant=refuse) == expected
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"), parse_constant=refuse) == expected


def test_a_name_that_is_no_valid_text_is_written(tmp_path):
    write_json(tmp_path / "a.json", {"päth": b"\xff.png".decode(errors="surrogateescape")})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "päth" in text
    assert json.loads(text)["päth"].encode(errors="surrogateescape") == b"\xff.png"


def test_nothing_else_on_the_host_writes_json():
    root = Path(edgeclf.__file__).parent
    found = {
        path.relative_to(root).as_posix(): len(re.findall(r"\bjson\.dumps?\(", path.read_text(encoding="utf-8")))
        for path in root.rglob("*.py")
    }
    del found["display/json_file.py"]
    assert {path: count for path, count in found.items() if count} == NOT_WRITTEN
