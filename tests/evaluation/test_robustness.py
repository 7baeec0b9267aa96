"""Accuracy on corrupted and attacked images, on a real run."""

import json
import shutil

import cv2
import numpy as np
import pytest

import edgeclf
from edgeclf.errors import OptionError
from edgeclf.evaluation.robustness.attack import fgsm, pgd
from edgeclf.evaluation.robustness.corruptions import corrupt
from edgeclf.evaluation.robustness.report import Damage, RobustnessReport
from edgeclf.training.runs import read_run
from edgeclf_runtime.images.preprocess import as_batch, preprocess


@pytest.fixture(scope="module")
def report(run, digits):
    return edgeclf.robustness(run, digits, corruptions=("noise", "dark", "fog"))


def test_the_clean_accuracy_is_that_of_evaluate(report, run, digits):
    found = edgeclf.evaluate(run, digits)
    assert (report.accuracy, report.images) == (found.accuracy, found.images)
    assert report.accuracy_interval == found.metrics.accuracy_interval
    assert report.baseline_accuracy == pytest.approx(1 / 3)


def test_a_darker_set_of_images_is_worse_and_as_bad_as_the_report_says(report, run, digits, tmp_path):
    held_out = edgeclf.evaluate(run, digits).paths
    for path in held_out:
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / path.parent.name / path.name), corrupt(cv2.imread(str(path)), "dark", 5))
    found = edgeclf.evaluate(run / "model.fp32.onnx", tmp_path, split="all")
    assert found.images == len(held_out)
    assert found.accuracy < report.accuracy
    assert found.accuracy == pytest.approx(report.corruptions["dark"].accuracy[4])


def test_the_same_call_gives_the_same_figures(report, run, digits):
    again = edgeclf.robustness(run, digits, corruptions=("noise",))
    assert again.corruptions["noise"] == report.corruptions["noise"]


def test_every_kind_of_model_is_tested(report, run, bundle, digits):
    for model, name in ((run / "model.fp32.onnx", None), (bundle, "fp32")):
        found = edgeclf.robustness(model, digits, name=name, corruptions=("dark",))
        assert found.corruptions["dark"].accuracy == pytest.approx(report.corruptions["dark"].accuracy)


def test_text_json_and_table_hold_every_accuracy(report):
    text, facts, html = str(report), json.loads(report.to_json()), report._repr_html_()
    assert max(map(len, text.splitlines())) <= 80
    for name, damage in report.corruptions.items():
        [line] = [line.split() for line in text.splitlines() if line.startswith(name)][:1]
        assert line[1:7] == [f"{value:.4f}" for value in (*damage.accuracy, damage.mean_accuracy)]
        assert facts["corruptions"][name]["accuracy"] == list(damage.accuracy)
        assert f"{damage.mean_accuracy:.4f}" in html
    assert facts["verdict"] == report.verdict
    assert facts["worst"] in report.verdict
    assert report.plot().axes[0].get_yticklabels()[0].get_text() == "noise"


def test_of_many_images_a_fixed_choice_is_used(run, digits, tmp_path):
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted(digits.rglob("*.png"), reverse=True)):
        (renamed / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, renamed / path.parent.name / f"{number}.png")
    found = [edgeclf.robustness(run, data, images=20, corruptions=("noise",)) for data in (digits, renamed)]
    assert [(one.images, one.available) for one in found] == [(20, 45)] * 2
    assert found[0].corruptions == found[1].corruptions
    assert "20 of 45 images" in " ".join(str(found[0]).split())


def made(accuracies, lower_from):
    damages = {
        name: Damage("", (1,) * 5, tuple(values), float(np.mean(values)), lower_from)
        for name, values in accuracies.items()
    }
    return RobustnessReport("fp32", "photos", "test", 100, 100, 0.9, (0.83, 0.94), 0.5, damages)


def test_the_verdict_names_what_hurts_most():
    report = made({"noise": [0.9] * 5, "motion": [0.9, 0.8, 0.7, 0.6, 0.5]}, 3)
    assert report.verdict == (
        "motion hurts most: the accuracy of 0.9000 falls to 0.7000 on average and to 0.5000 at severity 5, and is lower from "
        "severity 3 on"
    )


def test_the_verdict_claims_nothing_that_the_images_do_not_show():
    report = made({"noise": [0.9] * 5, "fog": [0.9, 0.9, 0.89, 0.89, 0.89]}, None)
    assert report.verdict.startswith(
        "no corruption lowers the accuracy by more than chance could on 100 images; fog comes"
    )


@pytest.fixture(scope="module")
def attacked(run, digits):
    """A run's network, and some of its held-out images with their labels."""
    opened, found = read_run(run), edgeclf.evaluate(run, digits)
    batch = as_batch([preprocess(cv2.imread(str(path)), opened.preprocessing) for path in found.paths[::3]])
    return opened.network().requires_grad_(False), batch, found.truth[::3]


def accuracy(network, batch, truth):
    import torch

    with torch.no_grad():
        return float((network(torch.from_numpy(batch)).argmax(1).numpy() == truth).mean())


def test_attacks_stay_within_eps_and_the_range_of_pixels(attacked):
    for changed in (fgsm(*attacked, 8.0), pgd(*attacked, 8.0, 3)):
        assert 4 < np.abs(changed - attacked[1]).max() <= 8.001
        assert 0 <= changed.min() <= changed.max() <= 255
        assert (changed.dtype, changed.shape) == (np.float32, attacked[1].shape)


def test_pgd_misleads_the_network_more_than_random_changes_of_that_size(attacked):
    network, batch, truth = attacked
    random = np.random.default_rng(0).choice([-8, 8], batch.shape)
    noisy = np.clip(batch + random, 0, 255).astype(np.float32)
    misled = accuracy(network, pgd(network, batch, truth, 8.0, 5), truth)
    assert misled < accuracy(network, noisy, truth) - 0.3
    assert misled < accuracy(*attacked) - 0.5


def test_an_attack_does_not_depend_on_the_other_images(attacked):
    network, batch, truth = attacked
    together = pgd(network, batch[:4], truth[:4], 8.0, 2)
    alone = pgd(network, batch[2:3], truth[2:3], 8.0, 2)
    # The sign of a tiny gradient may depend on the size of the batch.
    assert (np.abs(together[2] - alone[0]) > 0.01).mean() < 0.02


def test_the_report_holds_the_attacks(run, digits):
    found = edgeclf.robustness(run, digits, corruptions=("dark",), images=8, adversarial=True, eps=8, steps=3)
    assert found.attacks.eps == (1, 2, 4, 8)
    assert found.attacks.pgd[-1] < found.attacks.accuracy
    lines = [line.split() for line in str(found).splitlines()]
    assert ["attack,", "8", "images", "0", "1", "2", "4", "8", "levels"] in lines
    assert [line[:3] for line in lines if line[:1] == ["PGD,"]] == [["PGD,", "3", "steps"]]
    assert json.loads(found.to_json())["attacks"]["images"] == 8


def test_a_model_without_a_network_in_torch_cannot_be_attacked(command, bundle, digits):
    code, _, err = command("robustness", bundle, digits, "--name", "fp32", "--adversarial")
    assert code == 2
    assert "--adversarial needs the gradient of a network in torch" in err
    assert "attack the run that edgeclf train wrote" in err


def test_an_attack_on_an_imported_model_says_what_can_be_measured(tmp_path):
    from tests.support.foreign import SETTINGS, color_model, write_photos

    photos = write_photos(tmp_path / "photos", 10)
    edgeclf.import_model(color_model(tmp_path / "m.onnx"), tmp_path / "run", data=photos, **SETTINGS)
    with pytest.raises(OptionError, match="it was imported as ONNX: measure the corruptions only, without it"):
        edgeclf.robustness(tmp_path / "run", photos, adversarial=True)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"corruptions": ("rain",)}, "there is no corruption rain; choose from noise, defocus"),
        ({"images": 0}, "images is 0; 1 or more"),
        ({"eps": 0.0}, "eps is 0; more than 0 and at most 255 levels"),
        ({"steps": 0}, "steps is 0; 1 or more"),
        ({"corruption": "fog"}, "there is no option 'corruption'; did you mean corruptions"),
    ],
)
def test_wrong_options_are_refused(option, message):
    with pytest.raises(OptionError, match=message):
        edgeclf.robustness("run", "photos", **option)


def test_the_command_shows_the_report(command, run, digits):
    code, out, err = command("robustness", run, digits, "--corruption", "fog", "--images", "10", "--json")
    assert (code, list(json.loads(out)["corruptions"])) == (0, ["fog"])
    assert "corrupting for fp32: 10 in" in err
