"""Options: stated once, for Python and the command line."""

from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pytest
import typer

import edgeclf
from edgeclf import options
from edgeclf.calibration import rules
from edgeclf.cli.typer_options import with_options
from edgeclf.errors import OptionError
from edgeclf.graph import contract
from edgeclf.graph.int8 import ranges
from edgeclf.options import option
from edgeclf.options.config_file import read_config, write_config

CLASSES = [kind for name, kind in vars(options).items() if name.endswith("Options") and is_dataclass(kind)]


@dataclass(frozen=True, kw_only=True)
class Lunch:
    soup: str = option("tomato", "Soup of the day.")
    portions: int | None = option(None, "How many.", shown="one each", between=(1, 20))
    sides: tuple[str, ...] = option(("bread", "salad"), "A side; may be repeated.", name="--side", shown="all")
    to_go: bool = option(False, "Pack it.")
    table: int = 7


@pytest.fixture
def order():
    """Order lunch on a command line; returns what its command received."""
    received = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @with_options(Lunch)
    def lunch(guest: str, options: Lunch, loud: bool = False) -> None:
        received.append((guest, options, loud))

    def run(*arguments):
        app(arguments, standalone_mode=False)
        return received.pop() if received else None

    return run


def test_a_command_receives_what_was_given(order):
    line = ["Ada", "--soup", "leek", "--portions", "2", "--side", "rice", "--side", "egg", "--to-go", "--loud"]
    assert order(*line) == ("Ada", Lunch(soup="leek", portions=2, sides=("rice", "egg"), to_go=True), True)


def test_what_was_not_given_has_the_default_of_the_field(order):
    assert order("Ada") == ("Ada", Lunch(), False)


def test_a_field_that_is_no_option_is_not_on_the_command_line(order):
    with pytest.raises(Exception, match="No such option: --table"):
        order("Ada", "--table", "3")


def test_the_help_has_the_text_and_the_default_of_the_field(order, capsys):
    order("--help")
    out = " ".join(capsys.readouterr().out.split())
    for text in ("Soup of the day.", "[default: tomato]", "[default: one each]", "[default: all]"):
        assert text in out


@pytest.mark.parametrize("kind", CLASSES)
def test_options_are_filled_by_name(kind):
    assert all(field.kw_only for field in fields(kind))
    with pytest.raises(TypeError):
        kind(0)


def test_names_are_those_of_what_implements_them():
    assert tuple(rules.RULES) == options.RULES
    assert tuple(ranges.METHODS) == options.METHODS
    assert tuple(contract.RANGES) == options.PIXEL_RANGES


def test_options_are_given_as_keywords_too():
    start = options.TrainOptions(epochs=3, seed=5)
    assert options.merged(options.TrainOptions, start, {"seed": 7}) == options.TrainOptions(epochs=3, seed=7)
    assert options.merged(options.BundleOptions, None, {}) == options.BundleOptions()
    with pytest.raises(OptionError, match=r"there is no option 'epoch'; did you mean epochs\?"):
        edgeclf.train("photos", "runs/first", epoch=3)
    with pytest.raises(OptionError, match=r"epochs is 0; 1 to 10000 was expected"):
        edgeclf.train("photos", "runs/first", epochs=0)


def _outside(low, high):
    yield low - 1
    if high < float("inf"):
        yield high + 1


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_option_out_of_its_range_or_choices_is_refused_by_its_class(kind):
    for one in fields(kind):
        name = one.name.replace("_", "-")
        for value in _outside(*one.metadata["between"]) if one.metadata.get("between") else ():
            with pytest.raises(OptionError, match=f"{name} is {value}; .* was expected"):
                kind(**{one.name: value})
        if one.metadata.get("choices"):
            wrong = ("qqq",) if isinstance(one.default, tuple) else "qqq"
            with pytest.raises(OptionError, match="qqq"):
                kind(**{one.name: wrong})


def test_the_help_names_the_range_of_an_option(capsys, order):
    order("--help")
    assert "How many. [1 to 20] [default: one each]" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("TrainOptions", {"epochs": "3"}, "epochs is '3'; a whole number was expected"),
        ("TrainOptions", {"epochs": 2.5}, "epochs is 2.5; a whole number was expected"),
        ("TrainOptions", {"learning_rate": "fast"}, "learning-rate is 'fast'; a number was expected"),
        ("TrainOptions", {"targets": 3}, "targets is 3; a list of names was expected"),
        ("SplitOptions", {"seed": "x"}, "seed is 'x'; a whole number was expected"),
        ("SplitOptions", {"seed": None}, "seed is None; a whole number was expected"),
        ("CheckOptions", {"skip_unreadable": "no"}, "skip-unreadable is 'no'; True or False was expected"),
        ("QuantizeOptions", {"flavors": [8]}, r"flavors is \[8\]; a list of names was expected"),
        ("ImportOptions", {"crop": "all"}, "crop is 'all'; a number was expected"),
    ],
)
def test_a_keyword_of_another_type_is_refused_in_a_sentence(kind, given, message):
    with pytest.raises(OptionError, match=message):
        options.merged(getattr(options, kind), None, given)


def test_options_of_another_type_are_refused_in_a_sentence_without_keywords_too():
    with pytest.raises(OptionError, match="epochs is '3'; 1 to 10000 was expected"):
        options.TrainOptions(epochs="3")
    with pytest.raises(OptionError, match=r"flavor is 'fp16'; a list was expected: \['fp16'\]"):
        options.QuantizeOptions(flavors="fp16")


def test_one_name_a_list_and_numbers_of_numpy_are_taken():
    quantize = options.merged(options.QuantizeOptions, None, {"flavors": "fp16", "targets": ["x86-cpu"]})
    assert (quantize.flavors, quantize.targets) == (("fp16",), ("x86-cpu",))
    train = options.merged(options.TrainOptions, None, {"epochs": np.int64(3), "label_smoothing": np.float32(0.5)})
    assert [type(value) for value in (train.epochs, train.label_smoothing)] == [int, float]


def test_the_labels_of_an_import_may_be_a_list():
    assert options.ImportOptions(labels=["cat", "dog"]) == options.ImportOptions(label_names=("cat", "dog"))


@pytest.mark.parametrize(
    "verb",
    [
        "audit",
        "augment",
        "build",
        "bundle",
        "calibrate",
        "evaluate",
        "export",
        "export_formats",
        "import_model",
        "make",
        "predict",
        "quantize",
        "robustness",
        "train",
    ],
)
def test_every_verb_takes_keywords(verb):
    with pytest.raises(OptionError, match="there is no option 'qqq'; help"):
        getattr(edgeclf, verb)("here", "there.edge", qqq=1)


def test_the_verbs_about_a_model_take_keywords_and_no_option_by_position():
    with pytest.raises(OptionError, match="there is no option 'splt'; did you mean split"):
        edgeclf.compare("one", "other", "photos", splt="val")
    with pytest.raises(OptionError, match="there is no option 'sed'; did you mean seed"):
        edgeclf.demo("folder", sed=1)
    for verb in (edgeclf.evaluate, edgeclf.robustness, edgeclf.predict):
        with pytest.raises(OptionError, match=r"options is 'val'; \w+Options was expected, or options by name"):
            verb("run", "photos", "val")
    with pytest.raises(OptionError, match="threshold is 2; 0 to 1 was expected"):
        edgeclf.predict("run", "photo.png", threshold=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": "0.5,0.5", "std": "0.5"}, "mean is '0.5,0.5', 2 numbers; one, or three with commas, was expected"),
        ({"mean": "0.5", "std": "0.2,0,0.2"}, "std is '0.2,0,0.2'; numbers above 0 were expected"),
        ({"mean": "0.5"}, "mean was given without std; give both, --mean and --std"),
        ({"mean": "gray", "std": "1"}, "mean is 'gray'; a number, three with commas between them, or imagenet"),
        ({"mean": "nan", "std": "1"}, "mean is 'nan'; finite numbers were expected"),
        (
            {"mean": "123.675,116.28,103.53", "std": "58.4,57.1,57.4"},
            "0 to 1 was expected, .*; if it is for pixels from 0 to 255, divide it by 255: 0.485,0.456,0.406",
        ),
        ({"keep_head": True, "weights": "none"}, "keep-head needs a file with a head, but weights is none"),
    ],
)
def test_a_mean_or_std_that_no_weights_were_trained_with_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        edgeclf.TrainOptions(**given)


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "train.yaml").write_text(text)
        return tmp_path / "train.yaml"

    return write


def test_a_config_file_gives_options_back(tmp_path):
    given = options.TrainOptions(
        epochs=3, learning_rate=0.02, log=("mlflow",), mean="0.5", std="0.2", batch_size="auto"
    )
    write_config(tmp_path / "train.yaml", given, "edgeclf train DATA --output RUN")
    assert options.TrainOptions(**read_config(tmp_path / "train.yaml", options.TrainOptions)) == given
    assert (tmp_path / "train.yaml").read_text().startswith("# edgeclf train DATA --output RUN --config train.yaml\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", r"there is no option 'epoch'; did you mean epochs\?"),
        ("zzz: 3", "there is no option 'zzz', remove the line"),
        ("epochs: many", "epochs is 'many'; int or nothing was expected"),
        ("seed: true", "seed is True; int was expected"),
        ("- 3", "holds list; lines of the form epochs: 12 were expected"),
        ("epochs: [", "cannot be read as YAML"),
        ("epochs: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_config_file_that_cannot_be_meant_is_refused(config, text, message):
    with pytest.raises(OptionError, match=message):
        read_config(config(text), options.TrainOptions)


def test_the_command_line_has_priority_over_the_config_file(config):
    received = []
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @with_options(options.TrainOptions, config=True)
    def train(options: options.TrainOptions) -> None:
        received.append(options)

    file = str(config("epochs: 3\nlearning-rate: 1e-4\nval: 0.2\n"))
    app(["--epochs", "5", "--config", file], standalone_mode=False)
    assert received == [options.TrainOptions(epochs=5, learning_rate=1e-4, val=0.2)]
