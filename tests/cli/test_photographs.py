"""Users' photographs: unusual formats, and files that are not images."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support.host_commands import QUICK


def odd_photographs(folder):
    """Rewrite five of a folder's photographs in other formats that cameras and programs write."""
    first, second, third, fourth, fifth, *_ = sorted(folder.glob("*.png"))
    Image.open(first).convert("CMYK").save(folder / "print.jpg")
    cv2.imwrite(str(second), cv2.imread(str(second), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257)
    cv2.imwrite(str(third), cv2.imread(str(third), cv2.IMREAD_GRAYSCALE))
    cv2.imwrite(str(fourth), cv2.cvtColor(cv2.imread(str(fourth)), cv2.COLOR_BGR2BGRA))
    turned = Image.open(fifth).rotate(90, expand=True)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(folder / "TURNED.JPEG", exif=exif)


@pytest.mark.slow
def test_odd_photographs_in_odd_paths_go_all_the_way(command, photos, tmp_path):
    odd_photographs(photos / "3")
    model = tmp_path / "Erster Lauf 🚀"
    assert command("train", photos, "--output", model, *QUICK)[0] == 0
    assert command("evaluate", model, photos)[0] == 0
    code, out, _ = command("predict", model, photos / "3" / "print.jpg", photos / "3" / "TURNED.JPEG")
    assert code == 0
    assert len(out.splitlines()) == 2


def test_check_is_exit_code_1_where_training_would_stop_and_its_json_says_why(command, photos):
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, out, _ = command("check", photos, "--image-size", "64", "--json")
    assert code == 1
    [finding] = json.loads(out)["findings"]
    assert finding["files"] == [str(photos / "3" / "bad.jpg")]


@pytest.mark.slow
def test_commands_that_read_data_leave_out_what_is_unreadable_and_count_it(command, photos, run, tmp_path):
    def by_kind(facts):
        return {finding["kind"]: finding for finding in facts["findings"]}

    (photos / "3" / "bad.jpg").write_bytes(b"no image")
    skipping = ("--skip-unreadable", "--json")
    for arguments, counted in (
        (("check", photos, *skipping), lambda facts: len(by_kind(facts)["unreadable"]["files"])),
        (("evaluate", run, photos, "--split", "all", *skipping), lambda facts: facts["unreadable"]),
        (("calibrate", photos, "--output", tmp_path / "set", *skipping), lambda facts: facts["unreadable"]),
    ):
        code, out, _ = command(*arguments)
        assert (code, counted(json.loads(out))) == (0, 1)


def test_skip_unreadable_goes_on_and_says_what_it_left_out(command, photos, tmp_path):
    (photos / "3" / "bad.jpg").write_text("This is no photograph.")
    code, out, err = command("train", photos, "--output", tmp_path / "run", *QUICK, "--skip-unreadable", "--json")
    assert code == 0
    assert "bad.jpg: not an image" in err
    assert sum(json.loads(out)["images"].values()) == 180
