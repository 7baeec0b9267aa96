"""What all pages share: escaped values, charts that stay inside their frame, pictures of bounded size."""

import base64

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError

from edgeclf.display.page.charts import heat_map, row_axes, shortened, span, xy_axes
from edgeclf.display.page.pictures import SIDE, matrix, picture
from edgeclf.display.page.render import render
from edgeclf.quantization.report import read_report
from tests.support.html_pages import OUTSIDE
from tests.support.photos import picture as noise


def pixels_of(uri):
    return cv2.imdecode(np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_a_page_without_one_of_its_values_is_an_error():
    with pytest.raises(UndefinedError):
        render("quantization.html", title="a page")


@pytest.mark.parametrize("values", [(0, 1), (-3e-5, 4e-5), (0.9993, 1), (0, 250_000), (-7, -7 + 1e-9)])
def test_ticks_lie_inside_their_axis_and_differ(values):
    x, y = xy_axes(span(values), span(values), percent="y")
    for scale in (x, y):
        ends = sorted((scale.start, scale.end))
        assert all(ends[0] - 0.1 <= scale.at(value) <= ends[1] + 0.1 for value, _ in scale.ticks)
    assert len({text for _, text in x.ticks}) == len(x.ticks) >= 2


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [(0.94, 1.01, ["94%", "96%", "98%", "100%"]), (0.95, 1.05, ["95.0%", "97.5%", "100.0%", "102.5%", "105.0%"])],
)
def test_the_ticks_of_shares_are_exact(low, high, texts):
    _, y = xy_axes((0, 1), (low, high), percent="y")
    assert [text for _, text in y.ticks] == texts


def test_an_axis_of_whole_numbers_has_no_half_ticks():
    x, _ = xy_axes((0, 3), (0, 1), whole=True)
    assert [text for _, text in x.ticks] == ["0", "1", "2", "3"]


def test_names_of_rows_stand_beside_their_rows():
    _, y = row_axes((0, 1), ["first", "a name of more than 22 letters"])
    assert [text for _, text in y.ticks] == ["first", "a name of … 22 letters"]
    assert y.at(0) < y.at(1)


def test_a_long_name_keeps_its_ends():
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd…ghijk"


@pytest.mark.parametrize(("count", "columns"), [(3, "label 0"), (20, "1")])
def test_columns_of_a_heat_map_have_names_if_they_fit(count, columns):
    found = heat_map([f"label {number}" for number in range(count)], np.eye(count, dtype=int))
    assert found.columns[0] == columns
    assert [(row, column, share) for row, column, share, *_ in found.cells] == [(n, n, 1.0) for n in range(count)]


@pytest.mark.parametrize("shape", [(40, 40), (600, 300), (1, 900)])
def test_a_picture_is_small_whatever_the_image(shape):
    uri = picture(noise(0, *shape))
    assert max(pixels_of(uri).shape[:2]) == SIDE
    assert len(uri) < 20_000


def test_heat_colors_only_the_warm_part_of_a_picture():
    gray, heat = np.full((144, 144, 3), 90, np.uint8), np.zeros((6, 6))
    heat[1, 1] = 1
    shown = pixels_of(picture(gray, heat)).astype(int)
    assert np.ptp(shown[36, 36]) > 60
    assert np.ptp(shown[120, 120]) < 8


def test_a_large_matrix_keeps_its_single_confusions():
    shares = np.eye(1000)
    shares[3, 900] = 0.01
    shown = pixels_of(matrix(shares))
    assert shown.shape == (500, 500, 4)
    assert shown[1, 450, 3] > 80
    assert (shown[:, :, 3] > 0).sum() == 501


@pytest.fixture(scope="module")
def pages(run):
    """The pages of a run, by name."""
    assert read_report(run) is not None
    return {name: run / name for name in ("report.html", "quantization.html")}


@pytest.mark.parametrize("name", ["report.html", "quantization.html"])
def test_a_page_of_a_run_asks_nothing_of_another_host_and_runs_nothing(pages, name):
    assert OUTSIDE.findall(pages[name].read_text(encoding="utf-8")) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["report.html", "quantization.html"])
def test_a_page_fits_a_phone_in_light_and_dark(pages, name, scheme, browser):
    screen = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.devtools("Emulation.setDeviceMetricsOverride", **screen)
    browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open(pages[name].resolve().as_uri())
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    color = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (color == "rgb(255, 255, 255)") == (scheme == "light")
    pictures = browser.run("return [...document.images].every(image => image.naturalWidth > 0)")
    assert pictures
    assert browser.complaints() == []
