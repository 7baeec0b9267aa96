"""A real Jupyter kernel: what a cell shows of progress, messages, reports and plots, and that the caller's settings stay."""

import ast
import shutil

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")


def run_cells(folder, *sources):
    """Run cells in one kernel, in a folder; returns the outputs of each, as nbformat has them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [cell.outputs for cell in notebook.cells]


def plain(outputs):
    """The text of a cell's outputs, each by itself."""
    return [output["data"]["text/plain"] if "data" in output else output["text"] for output in outputs]


def test_progress_is_one_output_of_a_few_lines(tmp_path):
    work = (
        "from edgeclf.display import progress\n"
        "for number in progress.track(range(300), 'counting', 300):\n"
        "    progress.say(f'at {number}')\n"
        "    if number == 3: progress.say('warning: three')\n"
    )
    [first, second, quiet, loud] = run_cells(
        tmp_path,
        work,
        work,
        f"import edgeclf\nedgeclf.show_progress(False)\n{work}",
        f"edgeclf.show_progress(None)\n{work}",
    )
    for outputs in (first, second, loud):
        [text] = plain(outputs)
        lines = text.splitlines()
        assert len(lines) <= 41
        assert lines[-1].startswith("counting: 300 in ")
        assert lines[-2] == "at 299"
        assert "warning: three" in lines
    assert quiet == []


def test_a_bar_shows_how_far_work_is_that_failed(tmp_path):
    [outputs, _] = run_cells(
        tmp_path,
        "from edgeclf.display.progress import progress\n"
        "import edgeclf.display.progress as module\n"
        "module._CELL_EVERY_S = -1\n"
        "try:\n"
        "    with progress('counting', 4) as advance:\n"
        "        advance(); advance()\n"
        "        from edgeclf.display.progress import _Cell\n"
        "        seen = str(_Cell._latest._works[0])\n"
        "        raise ValueError\n"
        "except ValueError: pass\n",
        "assert seen.split()[1:3] == ['\\u2501' * 12 + '\\u2500' * 12, '2/4'], seen",
    )
    assert plain(outputs) == [""]


# By the import of OpenCV, Lightning and torch, and, so that nothing is reported, of edgeclf.
SET_BY_LIBRARIES = {
    *("LD_LIBRARY_PATH", "PYTORCH_NVML_BASED_CUDA_CHECK", "TORCHINDUCTOR_CACHE_DIR", "HF_HUB_DISABLE_TELEMETRY"),
}
SETTINGS = """
import logging, os, random, shutil, warnings
import numpy, torch
filters = list(warnings.filters)

def settings():
    return dict(
        level=logging.root.level, handlers=len(logging.root.handlers), disabled=logging.root.manager.disable,
        random=random.getstate()[1][:3], numpy=list(map(int, numpy.random.get_state()[1][:3])),
        threads=torch.get_num_threads(), deterministic=torch.are_deterministic_algorithms_enabled(),
        seed=torch.initial_seed(), **os.environ,
    )

before = settings()
"""
AFTER = """
new = [one for one in warnings.filters if one not in filters]
after = settings()
# What libraries add on import is for their own warnings, or for one message.
broad = [one for one in new if one[1] is None and one[2].__module__ == "builtins"]
print([[broad, [one for one in filters if one not in warnings.filters]], sorted(k for k in {*after, *before} if after.get(k) != before.get(k))])
"""


@pytest.mark.slow
def test_training_shows_its_warnings_and_leaves_the_callers_settings(tmp_path, digits):
    shutil.copytree(digits, tmp_path / "photos")
    shutil.copy(tmp_path / "photos/3/000.png", tmp_path / "photos/3/copy.png")
    [_, check, train, plot, arrays, same] = run_cells(
        tmp_path,
        SETTINGS,
        "import edgeclf\nedgeclf.check('photos')",
        "report = edgeclf.train('photos', 'run', image_size=64, epochs=50)\nreport",
        "report.plot()",
        "edgeclf.predict('run', numpy.zeros((9, 9, 3), numpy.uint8), order='rgb')",
        AFTER,
    )
    assert "duplicate" in check[-1]["data"]["text/html"]
    assert check[-1]["data"]["text/plain"].startswith("label ")
    progress, report = train
    lines = progress["data"]["text/plain"].splitlines()
    assert len(lines) < 50
    assert any(line.startswith("warning: duplicate: the same picture several times") for line in lines)
    assert lines[-1].startswith("training the head: ")
    assert "val accuracy" in report["data"]["text/html"]
    assert report["data"]["text/plain"].startswith("run: 3 labels")
    assert "image/png" in plot[-1]["data"]
    assert "<td>image</td>" in arrays[-1]["data"]["text/html"]
    broad, changed = ast.literal_eval(same[-1]["text"])
    assert broad == [[], []]
    assert set(changed) <= SET_BY_LIBRARIES
