"""Models of other programs, imported with the photographs that they were made for."""

import pytest

import edgeclf
from tests.support.foreign import SETTINGS, write_photos


@pytest.fixture(scope="module")
def colored_photos(tmp_path_factory):
    """Bluish cats and reddish dogs."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos")


@pytest.fixture
def imported(tmp_path, colored_photos):
    """Import a model: imported(PATH, without=("color",), data=None, size="64") gives its report."""

    def run(model, without=(), data=colored_photos, **options):
        settings = {name: value for name, value in SETTINGS.items() if name not in without}
        given = edgeclf.ImportOptions(**{**settings, **options})
        return edgeclf.import_model(model, tmp_path / "run", given, overwrite=True, data=data)

    return run
