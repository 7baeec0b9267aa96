"""The configuration file of the command run."""

import json
import sys

import pytest

from edgeclf_runtime.commands.parser import make_parser
from tests.runtime.commands.test_service_unit import ALL_OPTIONS, parse

SITE = {
    "event": {"cat": {"hold": 1, "min": 0.8}, "dog": {}},
    "sink": ["results.jsonl", "mqtt://broker/pets"],
    "quiet": True,
    "live-open": False,
    "threshold": 0.5,
    "cameras": {
        "door": {"source": "rtsp://h/1"},
        "yard": {"source": "/dev/video2", "roi": [0.25, 0, 0.5, 1.0], "control": {"gain": 3}, "no-health": True},
    },
}


def parsed(*words):
    found = make_parser("pets.edge").parse_args(["run", *map(str, words)])
    del found.again  # reads the file again
    return found


@pytest.fixture
def write(tmp_path):
    def write(facts, name="site.json"):
        (tmp_path / name).write_text(facts if isinstance(facts, str) else json.dumps(facts))
        return tmp_path / name

    return write


def test_a_file_means_what_the_same_words_mean(write):
    words = ("--event", "cat: hold=1, min=0.8", "--event", "dog: ", "--sink", "results.jsonl", "--sink")
    words += ("mqtt://broker/pets", "--quiet", "--threshold", "0.5", "--source", "door=rtsp://h/1")
    words += ("--source", "yard=/dev/video2", "--for", "yard", "--roi", "0.25,0,0.5,1.0", "--control", "gain=3")
    found = vars(parsed("--config", write(SITE)))
    assert found == vars(parsed(*words, "--no-health"))


def test_the_command_line_has_priority(write):
    found = parsed("--config", write(SITE), "--thresh", "0.9", "--sink", "other.csv", "--for", "door", "--top-k", "2")
    assert (found.threshold, found.sink, found.quiet) == (0.9, ["other.csv"], True)
    assert [name for name, _ in found.own] == ["yard", "door"]
    assert parsed("--config", write(SITE), "--source", "test://").sources == ["test://"]


def test_every_option_comes_back_from_the_file_that_is_printed_for_it(write, cli):
    values = parse(ALL_OPTIONS)
    code, out, _ = cli("run", *words_joined(ALL_OPTIONS), "--print-config")
    assert code == 0
    found = vars(parsed("--config", write(json.loads(out))))
    options = values.keys() - {"given", "again"}
    assert {name: found[name] for name in options} == {name: values[name] for name in options}


def words_joined(words):
    """Words that begin with a dash, joined to their options."""
    joined = []
    for word in words:
        joined += [joined.pop() + "=" + word] if word in ("-x", "--z", "-b.jsonl") else [word]
    return joined


def test_a_file_that_is_printed_for_cameras_means_the_same(write, cli):
    code, out, _ = cli("run", "--config", write(SITE), "--print-config")
    assert code == 0
    assert json.loads(out)["cameras"]["yard"]["roi"] == [0.25, 0.0, 0.5, 1.0]
    again = vars(parsed("--config", write(json.loads(out))))
    first = vars(parsed("--config", write(SITE)))
    assert {**again, "given": 0} == {**first, "given": 0}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python reads TOML from 3.11 on")
def test_toml_is_read_as_well(write):
    text = 'quiet = true\nthreshold = 0.5\n[cameras.door]\nsource = "rtsp://h/1"\nroi = [0, 0, 8, 8]\n'
    facts = {"quiet": True, "threshold": 0.5, "cameras": {"door": {"source": "rtsp://h/1", "roi": [0, 0, 8, 8]}}}
    assert vars(parsed("--config", write(text, "site.toml"))) == vars(parsed("--config", write(facts)))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"sauce": "x"}, "there is no sauce; did you mean source?"),
        ({"cameras": {"door": {"source": "x", "roy": 1}}}, "there is no cameras.door.roy; did you mean roi?"),
        ({"cameras": {"door": {"roi": [0, 0, 8, 8]}}}, "cameras.door.source is missing"),
        ({"cameras": {"front door": {"source": "x"}}}, "cameras: 'front door' is not a name; 1 to 40 letters"),
        ({"cameras": {"door": {"source": "x", "sink": "a.csv"}}}, "cameras.door.sink is for all cameras"),
        ({"cameras": {"door": {"source": 3}}}, "cameras.door.source is a number; a text was expected"),
        ({"cameras": ["x"]}, "cameras is a list; an object was expected"),
        ({"source": "x", "cameras": {"door": {"source": "x"}}}, "source is given beside cameras"),
        ({"source": "x", "threshold": 7}, "threshold: '7' is not a number from 0 to 1"),
        ({"source": "x", "quiet": "yes"}, "quiet is a text; true or false was expected"),
        ({"source": "x", "sink": [True]}, "sink is true or false; a text or a number was expected"),
        ({"source": "x", "rotation": 45}, "rotation is '45'; 0, 90, 180, 270 was expected"),
        ({"source": "x", "event": {"cat": {"hold": "x"}}}, "event: hold=x is not a number of seconds"),
        ({"source": "x", "config": "y"}, "there is no config"),
        ("[]", "holds a list; an object was expected"),
        ("{", "cannot be used (it is not JSON"),
        ('{"source": "a", "source": "b"}', "the key 'source' occurs twice"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(cli, write, facts, message):
    path = write(facts)
    code, out, err = cli("run", "--config", path)
    assert (code, out) == (1, "")
    assert str(path) in err
    assert message in err


@pytest.mark.parametrize("words", [("--config", "missing.json"), ("--config", "."), ("--config",)])
def test_a_file_that_cannot_be_read_is_told(cli, words):
    code, out, err = cli("run", *words)
    assert (code, out) == (1, "")
    assert "error: --config" in err
