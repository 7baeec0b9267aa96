"""Options: stated once, for Python and the command line."""

from dataclasses import dataclass, fields, is_dataclass

import pytest
import typer

from edgeclf import options
from edgeclf.calibration import rules
from edgeclf.cli.typer_options import with_options
from edgeclf.options import option
from edgeclf.quantization import ranges

CLASSES = [kind for name, kind in vars(options).items() if name.endswith("Options") and is_dataclass(kind)]


@dataclass(frozen=True, kw_only=True)
class Lunch:
    soup: str = option("tomato", "Soup of the day.")
    portions: int | None = option(None, "How many.", shown="one each", at_least=1)
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
