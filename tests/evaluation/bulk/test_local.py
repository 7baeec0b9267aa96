"""Processes of this machine that classify parts, and that are started again if they die."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgeclf.errors import EdgeclfError
from edgeclf.evaluation.bulk import local

WORKER = """
import sys
sys.stdin.readline()
for part in sys.stdin:
    print(0, flush=True)
    print(3, flush=True)
    DIES
    print("done", flush=True)
"""


def started(monkeypatch, dies):
    """Let processes run WORKER in place of a model, and count them."""
    children = []

    def start(module, **options):
        children.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", WORKER.replace("DIES", dies)], **options))
        return children[-1]

    monkeypatch.setattr(local, "start_child", start)
    return children


@pytest.fixture
def work(tmp_path):
    """Work of ten parts without any images."""
    items = [SimpleNamespace(name=f"{number}.jpg") for number in range(9)]
    return SimpleNamespace(path=tmp_path, items=lambda part: items)


def test_a_process_that_dies_is_started_again_and_repeats_its_part(work, tmp_path, monkeypatch):
    dies = f"import os; mark = f'{tmp_path}/{{int(part)}}'\n    if int(part) % 2 and not os.path.exists(mark): open(mark, 'w'); sys.exit(1)"
    children = started(monkeypatch, dies)
    assert sorted(local.classify_here(work, range(6), 2)) == list(range(6))
    assert len(children) == 5
    assert all(child.poll() is not None for child in children)


def test_images_on_which_processes_die_again_and_again_are_named(work, monkeypatch):
    children = started(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    message = (
        r"3 processes died at 3.jpg, the last by SIGKILL \(.* from 0.jpg to 8.jpg\): take that image out .*--workers"
    )
    with pytest.raises(EdgeclfError, match=message):
        list(local.classify_here(work, range(6), 1))
    assert len(children) == local.DEATHS


def test_processes_that_are_killed_at_one_image_or_another_are_started_again(work, tmp_path, monkeypatch):
    deaths = len(work.items(0)) - 1
    dies = f"import os; mark = f'{tmp_path}/mark'; open(mark, 'a').close(); count = os.path.getsize(mark)"
    dies += f"\n    if count < {deaths}: open(mark, 'a').write('x'); print(count, flush=True); os.kill(os.getpid(), 9)"
    children, said = started(monkeypatch, dies), []
    monkeypatch.setattr(local, "say", said.append)
    assert list(local.classify_here(work, [0], 1)) == [0]
    assert len(children) == 1 + deaths > local.DEATHS
    assert said[1] == "warning: a process died by SIGKILL at 1.jpg; another one goes on"


def test_an_error_of_a_process_ends_the_work_and_all_processes(work, monkeypatch):
    children = started(monkeypatch, "print('\"the model is gone\"', flush=True)")
    with pytest.raises(EdgeclfError, match=r"^the model is gone$"):
        list(local.classify_here(work, range(6), 2))
    for child in children:
        assert child.wait(10) is not None
