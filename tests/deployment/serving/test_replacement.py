"""Bundles that are replaced on disk while they serve."""

import shutil
import threading

import pytest

from edgeclf.deployment.serving import models, replacement
from edgeclf.deployment.serving.serve import listening
from edgeclf.display import progress
from edgeclf.options import ServeOptions
from edgeclf_runtime.errors import BackendError
from edgeclf_runtime.files.outputs import new_folder
from tests.deployment.serving.conftest import Client
from tests.support.sealing import reseal
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def other(bundle, tmp_path_factory):
    """Another bundle: the same with another name, and so another id."""
    path = shutil.copytree(bundle, tmp_path_factory.mktemp("other") / "other.edge")
    reseal(path, lambda manifest: manifest.update(name="other"))
    return path


@pytest.fixture
def served(bundle, tmp_path, monkeypatch):
    """A client of a bundle that may be replaced; its path, and each Served."""
    monkeypatch.setattr(replacement, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(replacement, "_RETRY_S", 0.02)
    progress.show_progress()
    path, opened = tmp_path / "it.edge", []
    shutil.copytree(bundle, path)
    remember = models.Models.replace
    monkeypatch.setattr(
        models.Models, "replace", lambda self, one: (opened.append(self.current("it")), remember(self, one))
    )
    with listening(path, ServeOptions(port=0, at_once=2)) as server:
        yield Client(server), path, opened
    progress.show_progress(False)


def version(client):
    return client.get("/models")[2]["models"][0]["version"]


def put(new, path):
    """Replace a bundle as edgeclf bundle does."""
    with new_folder(path, overwrite=True, marker="manifest.json") as work:
        shutil.copytree(new, work, dirs_exist_ok=True)


def is_closed(served):
    with pytest.raises(BackendError, match="is closed"):
        served.classifier.infer(models._gray(served.classifier, 1))
    return True


def test_a_bundle_that_is_replaced_takes_over_and_no_request_fails(served, other, image, capfd):
    client, path, opened = served
    before, end, answers = version(client), threading.Event(), []

    def ask():
        while not end.is_set():
            answers.append(client.post("/classify", image))

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in asking:
        thread.start()
    wait_until(lambda: answers)
    put(other, path)
    wait_until(lambda: version(client) != before)
    end.set()
    for thread in asking:
        thread.join()
    client.post("/classify", image)
    assert {status for status, _, _ in answers} == {200}
    assert {answer["bundle"] for _, _, answer in answers} >= {before}
    assert client.post("/classify", image)[2]["bundle"] == version(client)
    assert is_closed(opened[0])
    assert f"it: version {version(client)} has replaced {before}" in capfd.readouterr().err


def test_a_broken_bundle_is_refused_until_it_is_whole(served, other, image, capfd, tmp_path):
    client, path, _ = served
    before = version(client)
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "health.json").write_text("wrong")
    put(broken, path)
    refused = 'edgeclf_bundle_swaps_total{model="it",outcome="refused"} 1.0'
    wait_until(lambda: refused in client.get("/metrics")[2].decode())
    assert (version(client), client.post("/classify", image)[0]) == (before, 200)
    said = capfd.readouterr().err
    assert f"and {before} stays: {path}: health.json" in said
    assert said.count("is not used") == 1
    (path / "health.json").write_bytes((other / "health.json").read_bytes())
    wait_until(lambda: version(client) != before)


def test_a_bundle_that_is_gone_keeps_serving(served, image):
    client, path, _ = served
    before = version(client)
    shutil.rmtree(path)
    assert replacement.version_on_disk(path) == ""
    assert (version(client), client.post("/classify", image)[0]) == (before, 200)


class Closing:
    """A classifier that says whether it is closed."""

    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


def two():
    """Two Served of one name, the first of them in Models."""
    first, second = (models.Served("it", number, Closing()) for number in ("1", "2"))
    both = models.Models()
    both.add(first)
    return both, first, second


def test_the_old_bundle_closes_when_its_last_request_has_left():
    both, first, second = two()
    with both.using("it"):
        with both.using("it") as used:
            both.replace(second)
        assert used is first
        with both.using("it") as used:
            assert used is second
        assert not first.classifier.closed.is_set()
    assert first.classifier.closed.wait(30)
    assert not second.classifier.closed.is_set()


def test_a_bundle_without_requests_closes_at_once():
    both, first, second = two()
    both.replace(second)
    assert first.classifier.closed.wait(30)


def test_a_bundle_that_comes_after_the_end_is_closed():
    both, _, second = two()
    both.close()
    both.replace(second)
    assert second.classifier.closed.wait(30)
