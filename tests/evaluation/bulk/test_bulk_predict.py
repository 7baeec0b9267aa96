"""Many images in one file: its rows, what is kept, and what is refused."""

import csv
import io
import json
import os
import sys
import tarfile

import pytest

import edgeclf
from edgeclf.errors import EdgeclfError, OutputError
from edgeclf.evaluation.bulk import bulk_predict
from tests.support.host_commands import refused


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_rows_are_those_of_predict(here, model, digits, tmp_path):
    report = edgeclf.bulk_predict(model, digits, tmp_path / "all.csv", threshold=0.5)
    found, images = rows(tmp_path / "all.csv"), sorted(digits.rglob("*.png"))
    assert here == list(range(8))
    assert [row["path"] for row in found] == list(map(str, images))
    expected = edgeclf.predict(model, images, threshold=0.5)
    assert [row["predicted"] for row in found] == [one.result.label for one in expected]
    assert [float(row["confidence"]) for row in found] == pytest.approx(
        [one.result.confidence for one in expected], abs=1e-5
    )
    assert [row["reason"] for row in found] == [one.result.reason for one in expected]
    assert (report.images, report.rejected) == (180, sum(one.result.rejected for one in expected))
    assert sum(report.labels.values()) == 180
    assert sorted(tmp_path.iterdir()) == [tmp_path / "all.csv"]


def test_a_parquet_file_has_the_same_rows(here, bundle, digits, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for name in ("all.csv", "all.parquet"):
        edgeclf.bulk_predict(bundle, digits / "3", tmp_path / name, name="fp32")
    found = parquet.read_table(tmp_path / "all.parquet").to_pylist()
    assert [
        {**row, "confidence": f"{row['confidence']:.6f}", "distance": f"{row['distance']:.4f}"} for row in found
    ] == rows(tmp_path / "all.csv")


def test_an_archive_has_the_results_of_the_files_in_it(here, model, digits, tmp_path):
    images = sorted((digits / "3").iterdir())[:30]
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in images:
            tar.add(path, path.name)
        tar.addfile(tarfile.TarInfo("000.cls"), io.BytesIO())
    edgeclf.bulk_predict(model, tmp_path / "shard.tar", tmp_path / "tar.csv")
    edgeclf.bulk_predict(model, images, tmp_path / "files.csv")
    there, files = rows(tmp_path / "tar.csv"), rows(tmp_path / "files.csv")
    assert [row.pop("path") for row in there] == [f"{tmp_path}/shard.tar/{path.name}" for path in images]
    assert there == [{key: value for key, value in row.items() if key != "path"} for row in files]


def test_an_image_that_cannot_be_decoded_has_a_row_with_the_reason(here, command, model, digits, tmp_path):
    (tmp_path / "in").mkdir()
    good = digits / "3" / "000.png"
    (tmp_path / "in" / "a.jpg").write_text("no image")
    (tmp_path / "in" / "b.png").write_bytes(good.read_bytes())
    with tarfile.open(tmp_path / "in" / "c.tar", "w") as tar:
        tar.add(good, "1.png")
        tar.add(tmp_path / "in" / "a.jpg", "2.jpg")
        end = tar.offset
    os.truncate(tmp_path / "in" / "c.tar", end)
    code, out, _ = command("predict", model, tmp_path / "in", "--output", tmp_path / "all.csv", "--json")
    report = json.loads(out)
    assert (code, report["images"], report["unreadable"]) == (1, 5, 3)
    bad, fine, member, no_member, rest = rows(tmp_path / "all.csv")
    assert bad["error"].startswith("not an image")
    assert (bad["predicted"], bad["confidence"], fine["error"], fine["predicted"]) == ("", "", "", "3")
    assert (member["predicted"], no_member["error"]) == ("3", bad["error"])
    assert rest["path"] == str(tmp_path / "in" / "c.tar")
    assert rest["error"].startswith("the archive is damaged or cut off at byte")


def test_the_labels_of_a_csv_are_in_the_output(here, model, digits, tmp_path):
    (tmp_path / "list.csv").write_text(f"path,label\n{digits}/3/000.png,three\n")
    edgeclf.bulk_predict(model, tmp_path / "list.csv", tmp_path / "all.csv")
    assert [(row["label"], row["predicted"]) for row in rows(tmp_path / "all.csv")] == [("three", "3")]


def interrupted(monkeypatch, after):
    """Let the engine end after some parts as by Ctrl-C."""
    engine = bulk_predict._ENGINES["local"]

    def broken(work, parts, workers):
        for count, part in enumerate(engine(work, parts, workers), 1):
            yield part
            if count == after:
                raise KeyboardInterrupt

    monkeypatch.setitem(bulk_predict._ENGINES, "local", broken)
    return lambda: monkeypatch.setitem(bulk_predict._ENGINES, "local", engine)


def test_a_resumed_call_repeats_nothing_and_writes_the_same_file(here, command, model, digits, tmp_path, monkeypatch):
    edgeclf.bulk_predict(model, digits, tmp_path / "whole.csv")
    here.clear()
    repaired = interrupted(monkeypatch, 3)
    arguments = ("predict", model, digits, "--output", tmp_path / "all.csv")
    code, _, err = command(*arguments)
    assert code == 130
    assert f"{tmp_path}/all.csv.unfinished keeps 3 of 8 parts; the same command with --resume continues it" in err
    assert not (tmp_path / "all.csv").exists()
    repaired()
    refused(command(*arguments), "continue it with --resume, or start again with --overwrite")
    code, out, err = command(*arguments, "--resume", "--json")
    assert (code, json.loads(out)["resumed"], here) == (0, 75, list(range(8)))
    assert "75 of 180 images are done" in err
    assert (tmp_path / "all.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not (tmp_path / "all.csv.unfinished").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threshold": 0.9}, "the threshold is another"),
        ({"data": "3"}, "the images are others"),
        ({"model": "model.int8-cpu.onnx"}, "the model has changed"),
    ],
)
def test_finished_parts_of_other_work_are_not_mixed(here, run, model, digits, tmp_path, monkeypatch, changed, message):
    repaired = interrupted(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        edgeclf.bulk_predict(model, digits, tmp_path / "all.csv")
    repaired()
    call = {"model": run / changed.pop("model", model), "data": digits / changed.pop("data", ""), **changed}
    with pytest.raises(OutputError, match=f"another predict .*{message}.*start again with --overwrite"):
        edgeclf.bulk_predict(output=tmp_path / "all.csv", resume=True, **call)
    here.clear()
    edgeclf.bulk_predict(output=tmp_path / "all.csv", overwrite=True, **call)
    assert here[0] == 0


def test_a_call_that_finished_nothing_leaves_nothing(model, digits, tmp_path, monkeypatch):
    def broken(work, parts, workers):
        raise EdgeclfError("it broke")

    monkeypatch.setitem(bulk_predict._ENGINES, "local", broken)
    with pytest.raises(EdgeclfError, match="it broke"):
        edgeclf.bulk_predict(model, digits, tmp_path / "all.csv")
    assert list(tmp_path.iterdir()) == []


def test_two_calls_do_not_share_an_output(here, model, digits, tmp_path, monkeypatch):
    def engine(work, parts, workers):
        with pytest.raises(OutputError, match=r"all.csv.unfinished is in use by another process"):
            edgeclf.bulk_predict(model, digits, tmp_path / "all.csv", resume=True)
        raise EdgeclfError("the other was refused")

    monkeypatch.setitem(bulk_predict._ENGINES, "local", engine)
    with pytest.raises(EdgeclfError, match="the other was refused"):
        edgeclf.bulk_predict(model, digits, tmp_path / "all.csv")


@pytest.mark.slow
def test_a_run_that_was_not_exported_is_exported_for_the_work(here, own_run, digits, tmp_path):
    (own_run / "model.fp32.onnx").unlink()
    before = sorted(own_run.iterdir())
    edgeclf.bulk_predict(own_run, digits / "3", tmp_path / "all.csv")
    assert len(rows(tmp_path / "all.csv")) == 60
    assert sorted(own_run.iterdir()) == before


def test_names_that_are_no_text_or_a_formula_do_no_harm(here, model, digits, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / "in").mkdir()
    name = os.fsencode(tmp_path / "in") + b"/\xff.png"
    with open(name, "wb") as stream:
        stream.write((digits / "3" / "000.png").read_bytes())
    for suffix in ("csv", "parquet"):
        assert edgeclf.bulk_predict(model, tmp_path / "in", tmp_path / f"all.{suffix}").labels == {"3": 1}
    assert rows(tmp_path / "all.csv")[0]["path"].endswith(r"/\udcff.png")


def test_what_cannot_be_written_is_refused_before_any_work(command, model, digits, tmp_path, monkeypatch):
    def of(*arguments):
        return command("predict", model, digits, *arguments)

    (tmp_path / "there.csv").touch()
    refused(of("--output", tmp_path / "all.txt"), "a file that ends with .csv or .parquet was expected", 2)
    refused(of("--output", tmp_path / "there.csv"), "exists: choose another --output, or pass --overwrite")
    refused(of("--output", tmp_path / "a.csv", "--predictions", "b.csv"), "give --output", 2)
    refused(of("--engine", "ray"), "give --output", 2)
    refused(of("--resume"), "give --output", 2)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(of("--output", tmp_path / "a.parquet"), 'python3 -m pip install "edgeclf[parquet]"')
    refused(of("--output", tmp_path / "a.csv", "--engine", "ray"), 'python3 -m pip install "edgeclf[ray]"')
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
