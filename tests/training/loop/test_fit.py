"""The best epoch of a fit."""

import pytest

from edgeclf.training.loop.fit import ATTACKED, best_of


def epochs(*found, **more):
    """Rows of epochs with these accuracies and losses."""
    return [
        {
            "epoch": number,
            "val_accuracy": accuracy,
            "val_loss": loss,
            **{name: values[number] for name, values in more.items()},
        }
        for number, (accuracy, loss) in enumerate(found)
    ]


@pytest.mark.parametrize(
    ("images", "best"),
    [
        (200, 2),  # an accuracy of 0.90 has a standard error of 0.021 there: epoch 2 is within it, epoch 3 is not
        (10_000, 1),  # 0.003 there
        (0, 1),
    ],
)
def test_of_the_accuracies_that_chance_could_swap_the_lowest_loss_is_the_best_epoch(images, best):
    rows = epochs((0.85, 0.50), (0.90, 0.40), (0.89, 0.30), (0.87, 0.20))
    assert best_of(rows, images)["epoch"] == best


def test_an_accuracy_that_falls_step_by_step_does_not_stay_the_best():
    rows = epochs((0.90, 0.5), (0.89, 0.4), (0.88, 0.3), (0.87, 0.2), (0.86, 0.1))
    assert best_of(rows, 200)["epoch"] == 2


def test_of_equal_epochs_the_first_is_the_best_and_a_much_better_one_later_wins_with_any_loss():
    assert best_of(epochs((0.9, 0.5), (0.9, 0.5)), 100)["epoch"] == 0
    assert best_of(epochs((0.6, 0.5), (0.9, 0.8)), 100)["epoch"] == 1


def test_the_highest_accuracy_on_attacked_images_is_the_best_epoch_however_few_they_are():
    rows = epochs((0.9, 0.5), (0.9, 0.1), **{ATTACKED: [0.41, 0.40]})
    assert best_of(rows, 20)["epoch"] == 0
