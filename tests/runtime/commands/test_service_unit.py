import shutil
import subprocess

import pytest

from edgeclf_runtime.commands.parser import make_parser
from edgeclf_runtime.commands.service.unit import Credential, Unit, quote, systemd_version, unit_text
from edgeclf_runtime.commands.service.words import run_words
from edgeclf_runtime.errors import EdgeclfError

UNIT = Unit("pets", ("/usr/bin/python3", "/opt/pets.edge", "run", "--source", "csi://0"), "edgeclf")
# What words mean something else to systemd, or to its unit files.
AWKWARD = (
    *("", " ", "two words", "100%", "%h", "%%", "$HOME", "${HOME}", "$$", '"', "'", "\\", "\\x20", "\\n", "a\\"),
    *(
        "\n",
        "\t",
        "\x1b[0m",
        "\u00fc \u4e2d",
        "\u202e",
        "\U000e0100",
        ";",
        "a;b",
        "#no",
        "-",
        "@x",
        ":x",
        "!x",
        "+x",
        "~",
    ),
    *('gst://a ! b x="1\\ 2" ! c', "{password}", "*", "?", "[a]", "|", "&", "`id`", "=", "a=b", "(x)"),
)


def verify(text, folder, name="pets"):
    """The errors that systemd finds in a unit; skips the test without systemd."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (sudo apt-get install systemd)")
    path = folder / (name + ".service")
    path.write_bytes(text.encode("utf-8"))
    done = subprocess.run([program, "verify", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    found = [line for line in done.stdout.decode("utf-8").splitlines() if name in line]
    return "\n".join(found) or (done.returncode and f"exit code {done.returncode}") or ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("csi://0", "csi://0"),
        ("two words", '"two words"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\\x20", '"\\\\x20"'),
        ("a\nb\x1b", '"a\\x0ab\\x1b"'),
        ("T\u00fcr\u202e", '"T\u00fcr\\u202e"'),
        ("", '""'),
        (";", '";"'),
    ],
)
def test_a_word_is_quoted_as_systemd_reads_it(text, expected):
    assert quote(text) == expected


def test_a_word_that_is_not_in_utf_8_is_refused():
    with pytest.raises(EdgeclfError, match="is not in UTF-8"):
        quote("\udcff")


@pytest.mark.parametrize("program", ["python3", "/opt/50%/python3", '/opt/"/python3', "/opt/$x/python3", "/opt/a\\b"])
def test_a_python_that_systemd_cannot_start_is_refused(program):
    with pytest.raises(EdgeclfError, match="systemd cannot start Python"):
        unit_text(UNIT._replace(command=(program, "x")))


@pytest.mark.parametrize("version", [237, 245, 249, None])
def test_systemd_finds_nothing_wrong_with_a_unit_of_awkward_words(tmp_path, version):
    python = shutil.which("python3")
    words = (python, "/opt/a b %$\u00fc.edge", "run", *AWKWARD, Credential("camera", "/etc/a b%: \"x'\\"))
    more = {"network": True, "after": ("nvargus-daemon.service",), "writes": ('/srv/a b%"\\:',), "port": 80}
    unit = UNIT._replace(command=words, prepare=("/bin/true", "-c=0"), private_tmp=False, **more)
    assert verify(unit_text(unit, version), tmp_path) == ""


def test_systemd_would_find_a_mistake(tmp_path):
    assert "Restarts" in verify(unit_text(UNIT).replace("RestartSec", "Restarts"), tmp_path)


def test_an_old_systemd_gets_no_directive_that_it_does_not_know():
    old, new = (unit_text(UNIT._replace(command=(*UNIT.command, Credential("c", "/c"))), v) for v in (237, None))
    for name in ("RestrictSUIDSGID", "OOMPolicy", "ProtectKernelLogs", "LoadCredential"):
        assert name + "=" in new
        assert name + "=" not in old


def test_a_unit_comes_back_and_is_watched():
    lines = unit_text(UNIT).splitlines()
    assert {"WantedBy=multi-user.target", "Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=30"} <= set(lines)
    state = "/var/lib/edgeclf/pets"
    assert f"Environment=XDG_CACHE_HOME=/var/cache/edgeclf/pets XDG_STATE_HOME={state} HOME={state}" in lines
    assert {"CacheDirectory=edgeclf/pets", "StateDirectory=edgeclf/pets", "User=edgeclf"} <= set(lines)
    # Devices of cameras and GPUs have many names, and a private /dev has none of them.
    assert not any(line.startswith(("PrivateDevices", "DevicePolicy", "ProtectClock")) for line in lines)


@pytest.mark.parametrize(
    ("said", "version"),
    [("systemd 237\n+PAM", 237), ("systemd 252 (252.38-1~deb12u1)\n", 252), ("bash 5", None), ("", None)],
)
def test_the_version_of_systemd_is_what_it_says(said, version):
    assert systemd_version(said) == version


ALL_OPTIONS = (
    *("--json", "--source", "a b", "--password-file", "p", "--width", "640", "--height", "480", "--fps", "5"),
    *("--flip", "180", "--policy", "latest", "--timeout", "2.5", "--frozen", "0", "--frames", "7", "--no-wait"),
    *("--model", "fp32", "--backend", "opencv", "--threads", "2", "--top-k", "3", "--threshold", "0.25"),
    *("--most-distance", "2.5", "--decode", "hardware"),
    *(
        "--allow",
        "-x",
        "--allow",
        "y",
        "--deny",
        "--z",
        "--roi",
        "0.25,0,0.5,1.0",
        "--rotation",
        "90",
        "--mask",
        "m.png",
        "--tune",
    ),
    *("--smooth", "0.5", "--margin", "0.2", "--sink", "a.csv", "--sink", "-b.jsonl", "--mqtt-password-file", "m"),
    *("--live", ":8080", "--live-token-file", "t", "--live-open", "--live-name", "a", "--live-cert", "c"),
    "--live-classify",
    *("--mqtt-ca", "ca", "--mqtt-cert", "mc", "--mqtt-key", "mk", "--live-proxy", "127.0.0.1", "--verbose"),
    *(
        "--log-level",
        "debug",
        "--device-name",
        "line 4",
        "--format",
        "MJPG",
        "--control",
        "gain=1",
        "--control",
        "exposure=-5",
    ),
    *("--live-key", "k", "--uncertain", "u", "--uncertain-below", "0.5", "--uncertain-megabytes", "9", "--quiet"),
    *("--baseline", "learn", "--no-health"),
    *("--event", "a: b: hold=1", "--event", "*: min=0.8", "--every", "2", "--when-motion"),
    *("--schedule", "mon-fri 22:00-06:00"),
    *("--snapshots", "s", "--snapshots-megabytes", "8", "--home-assistant", "p"),
    *("--clips", "c", "--clips-megabytes", "9"),
    *(
        "--webhook",
        "http://h/p",
        "--webhook-secret-file",
        "ws",
        "--webhook-ca",
        "wc",
        "--on-event",
        "p",
        "--on-event-arg",
        "-x",
        "--on-event-arg",
        "y",
    ),
)


NOT_OPTIONS = ("name", "command", "given", "sources", "own", "again", "for_camera", "config", "print_config")


def parse(words):
    joined = []
    for word in words:
        # argparse takes what begins with a dash for an option, unless it is joined to its own.
        joined += [joined.pop() + "=" + word] if word in ("-x", "--z", "-b.jsonl") else [word]
    return vars(make_parser("pets.edge").parse_args(["run", *joined]))


def test_every_option_of_run_means_the_same_in_a_unit():
    values = parse(ALL_OPTIONS)
    defaults = parse(["--source", "x"])
    untold = [name for name, value in values.items() if name not in NOT_OPTIONS and value == defaults[name]]
    assert untold == [], "give the option in ALL_OPTIONS"
    assert parse(run_words(values)) == values


def test_a_service_that_shall_not_measure_does_not():
    values = parse(["--source", "x", "--no-tune"])
    assert values["tune"] is False
    assert run_words(values)[-1] == "--no-tune"


def test_whole_numbers_of_a_region_stay_whole():
    values = parse(["--source", "x", "--roi", "0,0,1,1"])
    assert parse(run_words(values)) == values
