import numpy as np

from edgeclf.deployment.health_baseline import usual_results
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.commands.info import info
from edgeclf_runtime.streaming.health import watch
from edgeclf_runtime.streaming.health.baseline import FILE, MOST_BYTES
from edgeclf_runtime.streaming.health.monitor import Monitor
from edgeclf_runtime.streaming.health.symptoms import MIX, UNKNOWN
from edgeclf_runtime.streaming.health.watch import open_health, read_baseline


def test_a_bundle_says_what_its_training_images_look_like(bundle):
    found = read_baseline(open_bundle(bundle))
    assert found.images > 100
    assert (bundle / FILE).stat().st_size < MOST_BYTES
    assert "compares the camera with" in str(info(bundle))


def test_its_own_validation_images_are_usual(bundle, run):
    from edgeclf.data.pixels import load_pixels
    from edgeclf.training.runs import read_run
    from edgeclf_runtime.streaming.health.measures import measure

    opened, read = open_bundle(bundle), read_run(run)
    monitor = Monitor(read_baseline(opened), opened.labels)
    samples = read.dataset().split("val")
    random = np.random.default_rng(0)
    for index in random.integers(len(samples), size=600):
        assert monitor.add_image(measure(load_pixels(samples[index].path, read.preprocessing))) == []


def test_few_validation_images_give_no_usual_results():
    assert usual_results(np.zeros((10, 3)), 1.0).low is None


def test_usual_results_are_the_shares_of_labels_and_the_lowest_confidences():
    logits = np.eye(3)[[0] * 50 + [1] * 30 + [2] * 20] * np.linspace(1, 5, 100)[:, None]
    usual = usual_results(logits, 1.0)
    assert usual.labels == (0.5, 0.3, 0.2)
    assert usual.low[0] < 0.65
    assert usual.low[1] == 0.05


def test_a_bundles_distances_are_watched_even_if_only_some_labels_are_allowed(bundle, monkeypatch):
    opened = open_bundle(bundle)
    enough = read_baseline(opened)._replace(low=(0.5, 0.05))
    monkeypatch.setattr(watch, "read_baseline", lambda _: enough)
    assert all(model.known_images for model in opened.models)
    evidence = open_health(opened, "camera", results=False).monitor.evidence
    assert UNKNOWN in evidence
    assert MIX not in evidence


def test_the_usual_distance_of_few_validation_images_is_not_watched(bundle, monkeypatch):
    opened = open_bundle(bundle)
    few = read_baseline(opened)._replace(low=None)
    monkeypatch.setattr(watch, "read_baseline", lambda _: few)
    assert UNKNOWN not in open_health(opened, "camera").monitor.evidence
