import json
import os
import shutil
import stat

import pytest

from edgeclf_runtime.commands.service import install, run_command
from edgeclf_runtime.commands.service.unit import MARK
from tests.runtime.commands.test_service_unit import verify

LIVE = ("install-service", "--name", "pets", "--source", "csi://0")


@pytest.fixture
def units(tmp_path, monkeypatch):
    """The only folder of unit files."""
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(install, "UNITS", str(folder))
    monkeypatch.setattr(install, "_OTHER_UNITS", (str(tmp_path / "lib"),))
    # The tests' own Python and temporary folder may be in a home.
    monkeypatch.setattr(run_command, "_HOMES", (str(tmp_path / "home"),))
    monkeypatch.setattr(install, "_systemd_version", lambda: None)
    return folder


@pytest.fixture
def cli(units, cli):
    """Run a command; what it installs goes to ``units``."""
    return cli


@pytest.fixture
def unit(cli):
    """The directives of the unit for a command line, as a list, and the notes."""

    def make(*arguments, **options):
        code, out, err = cli(*arguments, "--dry-run", **options)
        assert code == 0, err
        return out.splitlines(), err

    return make


def command(lines):
    """The arguments of ``run`` in a unit, as text."""
    (line,) = [line for line in lines if line.startswith("ExecStart=")]
    return line.partition(" run ")[2]


@pytest.mark.parametrize("name", ["pets.edge", "my pets 100% $HOME.edge", 'T\u00fcr "1" \\x20 %h.edge', "-a;b #c.edge"])
def test_a_dry_run_prints_a_unit_that_systemd_accepts_and_changes_nothing(cli, copied, units, tmp_path, name):
    place = tmp_path / "a b%"
    place.mkdir()
    copied.rename(place / name)
    options = ("--sink", "out put/100% $x.mp4", "--roi", "0.1,0,0.5,1", "--dry-run", "--name", "pets")
    code, out, err = cli("install-service", "--source", "rtsp://me@h/a%20b", *options, bundle=place / name)
    shutil.move(str(place / name), str(copied))
    assert code == 0, err
    assert verify(out, tmp_path) == ""
    assert os.listdir(str(units)) == []
    for text in (
        "/var/lib/edgeclf/pets/out put/100%% $$x.mp4",
        "a%%20b",
        "[Install]",
        "#   systemctl enable pets.service",
    ):
        assert text in out


def test_a_service_has_several_cameras_with_their_own_options(cli):
    cameras = ("--source", "door=rtsp://h/1", "--source", "yard=csi://0", "--event", "*")
    code, out, err = cli("install-service", "--dry-run", *cameras, "--for", "yard", "--roi", "0,0,8,8", "--no-health")
    assert code == 0, err
    words = command(out.splitlines())
    assert "--source door=rtsp://h/1 --source yard=csi://0" in words
    assert words.endswith("--for yard --roi 0,0,8,8 --no-health")
    _, out, _ = cli(
        "install-service", "--dry-run", *cameras, "--mask", "/etc/m.png", "--for", "yard", "--mask", "/etc/./y.png"
    )
    words = command(out.splitlines())
    assert " --mask /etc/m.png " in words
    assert words.endswith("--for yard --mask /etc/y.png")
    code, _, err = cli("install-service", "--dry-run", *cameras, "--for", "door", "--password-file", "/etc/hosts")
    assert code == 1
    assert "give one before --for, for all cameras" in err


@pytest.mark.slow
def test_a_service_writes_no_line_a_frame_to_the_journal_unless_asked(unit):
    assert "--quiet" in command(unit(*LIVE)[0])
    assert "--quiet" not in command(unit(*LIVE, "--json")[0])
    assert "--quiet" not in command(unit(*LIVE, "--event", "*")[0])
    assert "--quiet" in command(unit(*LIVE, "--event", "*", "--every", "1")[0])
    notes = unit(*LIVE)[1]
    assert "the results go nowhere" in notes


@pytest.mark.parametrize(
    ("options", "network"),
    [
        (["--source", "csi://0", "--live", "8080"], False),
        (["--source", "/dev/video0"], False),
        (["--source", "rtsp://camera/1"], True),
        (["--source", "http://camera/1"], True),
        (["--source", "gst://videotestsrc"], False),
        (["--source", "gst://rtspsrc location=rtsp://camera/1 ! decodebin"], True),
        (["--source", "csi://0", "--live", "0.0.0.0:8080"], True),
        (["--source", "csi://0", "--sink", "mqtt://broker/pets"], True),
    ],
)
def test_a_service_is_started_after_the_network_where_it_needs_it(unit, options, network):
    lines = unit("install-service", *options)[0]
    assert any(line.startswith("Wants=network-online.target") for line in lines) is network
    assert any(line.startswith("After=network-online.target") for line in lines) is network


def test_a_csi_camera_is_reached_by_the_socket_of_its_daemon(unit):
    lines = unit(*LIVE)[0]
    assert "After=nvargus-daemon.service" in lines
    assert "PrivateTmp=no" in lines


@pytest.mark.slow
def test_a_service_that_ends_by_itself_is_not_started_again_and_again(unit, bundle):
    assert "Restart=always" in unit("install-service", "--source", "test://")[0]
    assert "Restart=on-failure" in unit("install-service", "--source", bundle / "golden")[0]
    assert "Restart=on-failure" in unit("install-service", "--source", "test://", "--frames", "9")[0]


def test_paths_are_absolute_and_outputs_below_the_service_own_folder(unit, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(str(bundle))
    sinks = ("--sink", "a.csv", "--sink", tmp_path / "b c" / "d.mp4", "--uncertain", "unc", "--live-token-file", "t")
    lines, notes = unit("install-service", "--name", "pets", "--source", "golden", "--live", "8080", *sinks)
    for text in (f"--source {bundle}/golden ", "--sink /var/lib/edgeclf/pets/a.csv ", f'--sink "{tmp_path}/b c/d.mp4"'):
        assert text in command(lines)
    assert "--uncertain /var/lib/edgeclf/pets/unc" in command(lines)
    assert f'ReadWritePaths="-{tmp_path}/b c"' in lines
    assert f"LoadCredential=live-token:{bundle}/t" in lines
    assert "a.csv will be /var/lib/edgeclf/pets/a.csv" in notes
    assert f"#   install -d -o edgeclf '{tmp_path}/b c'" in lines


def test_a_password_file_becomes_a_credential(unit, tmp_path):
    (tmp_path / "camera %").write_text("secret\n")
    lines, _ = unit("install-service", "--source", "rtsp://me@camera/1", "--password-file", tmp_path / "camera %")
    assert f"LoadCredential=camera-password:{tmp_path}/camera %%" in lines
    assert '--password-file "${CREDENTIALS_DIRECTORY}/camera-password"' in command(lines)


def test_an_old_systemd_reads_the_password_file_itself(unit, tmp_path, monkeypatch):
    monkeypatch.setattr(install, "_systemd_version", lambda: 245)
    (tmp_path / "camera").write_text("secret\n")
    lines, notes = unit("install-service", "--source", "rtsp://me@camera/1", "--password-file", tmp_path / "camera")
    assert f"--password-file {tmp_path}/camera" in command(lines)
    assert "has no LoadCredential=" in notes
    assert not any(line.startswith("LoadCredential") for line in lines)


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (["--source", "rtsp://me:secret1@camera/1"], "--password-file"),
        (["--source", "http://camera/video?pwd=secret1"], "--password-file"),
        (["--source", "gst://rtspsrc user-pw=secret1 ! decodebin"], "--password-file"),
        (["--source", "csi://0", "--sink", "mqtt://me:secret1@broker/pets"], "--mqtt-password-file"),
    ],
)
def test_a_password_that_everybody_could_read_is_refused(cli, options, option):
    code, out, err = cli("install-service", *options, "--dry-run")
    assert (code, out) == (1, "")
    assert f"use {option} FILE, which systemd passes to the service with LoadCredential=" in err
    assert "secret1" not in err


def test_a_password_that_a_service_does_not_inherit_is_refused(cli, monkeypatch):
    monkeypatch.setenv("EDGECLF_CAMERA_PASSWORD", "secret1")
    code, _, err = cli("install-service", "--source", "rtsp://me@camera/1", "--dry-run")
    assert code == 1
    assert "a service does not inherit it" in err
    assert "--password-file FILE" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "--source"),
        (["--source", "csi://0", "--frames", "0"], 2, "is not a whole number of 1 or more"),
        (["--source", "csi://0", "--fly"], 2, "unrecognized arguments: --fly"),
        (["--source", "ftp://x"], 1, "no such source"),
        (["--source", "no-such-video.mp4"], 1, "no such source"),
        (["--source", "csi://0", "--policy", "all"], 1, "works with files only"),
        (["--source", "csi://0", "--sink", "a.txt"], 1, "unknown output"),
        (["--source", "csi://0", "--sink", "mqtt://broker"], 1, "is not an MQTT address"),
        (["--source", "csi://0", "--live", "x"], 1, "is not an address for the live page"),
        (["--source", "csi://0", "--model", "fp8"], 1, "fp8"),
        (["--source", "csi://0", "--backend", "abacus"], 1, "abacus"),
        (["--source", "csi://0", "--allow", "unicorn"], 1, "there is no label 'unicorn'"),
        (["--source", "csi://0", "--name", "a/b"], 1, "is not a valid service name"),
        (["--source", "csi://0", "--name", "../x"], 1, "is not a valid service name"),
        (["--source", "csi://0", "--name", ".x"], 1, "is not a valid service name"),
        (["--source", "csi://0", "--name", ""], 1, "is not a valid service name"),
        (["--source", "csi://0", "--user", "a b"], 1, "is not a valid user name"),
        (["--source", "rtsp://h/{password}"], 1, "needs a password"),
    ],
)
def test_options_that_run_would_refuse_are_refused_at_once(cli, options, code, message):
    found, out, err = cli("install-service", *options, "--dry-run")
    assert (found, out) == (code, "")
    assert message in err


def test_a_bundle_in_somebodys_home_is_refused(cli, copied, tmp_path):
    (tmp_path / "home").mkdir()
    copied.rename(tmp_path / "home" / "pets.edge")
    code, _, err = cli(*LIVE, "--dry-run", bundle=tmp_path / "home" / "pets.edge")
    os.symlink(str(tmp_path / "home"), str(tmp_path / "link"))
    by_link = cli(*LIVE, "--dry-run", bundle=tmp_path / "link" / "pets.edge")[0]
    shutil.move(str(tmp_path / "home" / "pets.edge"), str(copied))
    assert (code, by_link) == (1, 1)
    assert "is in a user's home, which a service does not see (ProtectHome=yes): copy it to another folder" in err


@pytest.mark.slow
def test_a_bundle_that_others_can_change_is_noted(unit, copied):
    assert "users other than root can change" not in unit(*LIVE, bundle=copied)[1] or os.getuid() != 0
    (copied / "manifest.json").chmod(0o666)
    assert f"users other than root can change {copied}/manifest.json" in unit(*LIVE, bundle=copied)[1]


def test_a_low_port_is_a_capability(unit):
    assert "CapabilityBoundingSet=" in unit(*LIVE, "--live", "8080")[0]
    lines = unit(*LIVE, "--live", "0.0.0.0:80")[0]
    assert {"CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE"} <= set(lines)


def test_engines_are_built_as_the_user_and_into_the_cache_of_the_service(unit, monkeypatch):
    monkeypatch.setattr(run_command, "backend_version", lambda backend: "8.2.1")
    monkeypatch.setattr(run_command, "candidates", lambda *arguments: [(None, "tensorrt")])
    lines = unit(*LIVE, "--model", "fp32")[0]
    (build,) = [line for line in lines if "systemd-run" in line]
    for text in (
        "--property=User=edgeclf",
        "--property=CacheDirectory=edgeclf/pets",
        "XDG_CACHE_HOME=/var/cache/edgeclf/pets",
        ".edge build --model fp32",
    ):
        assert text in build
    assert "(no engine to build" not in "\n".join(lines)
    assert lines.index(build) < lines.index("#   systemctl restart pets.service")


@pytest.mark.slow
def test_the_name_is_the_bundles_unless_another_is_given(unit, copied):
    assert (
        "# " + os.path.join(install.UNITS, "copy.service")
        in unit("install-service", "--source", "test://", bundle=copied)[0]
    )
    assert "Description=edgeclf: cats" in unit("install-service", "--source", "test://", "--name", "cats.service")[0]


@pytest.mark.slow
def test_somebody_elses_unit_is_not_overwritten_unasked(cli, unit, units, tmp_path):
    (units / "pets.service").write_text("[Service]\nExecStart=/bin/true\n")
    code, _, err = cli(*LIVE, "--dry-run")
    assert code == 1
    assert "install-service did not make it: choose another --name, or pass --overwrite" in err
    unit(*LIVE, "--overwrite")
    (units / "pets.service").write_text(MARK + "\n")
    unit(*LIVE)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pets.service").write_text("[Service]\n")
    assert cli(*LIVE, "--dry-run")[0] == 1


def test_without_systemd_or_root_it_says_what_to_do(cli, units, monkeypatch, tmp_path):
    monkeypatch.setattr(install, "_RUNNING", str(tmp_path / "none"))
    code, _, err = cli(*LIVE)
    assert (code, "this machine does not run systemd" in err, "--dry-run" in err) == (1, True, True)
    monkeypatch.setattr(install, "_RUNNING", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = cli(*LIVE)
    assert (code, "run this with sudo" in err) == (1, True)
    assert os.listdir(str(units)) == []


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Programs that record their calls; returns the record, or makes one program fail."""
    folder, log = tmp_path / "bin", tmp_path / "log"
    folder.mkdir()
    for name in ("systemctl", "useradd", "install", "systemd-run"):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{log}"\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(install, "_RUNNING", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def said(failing=None):
        if failing:
            (folder / failing).write_text("#!/bin/sh\nexit 3\n")
        return log.read_text().splitlines() if log.exists() else []

    return said


def test_installing_writes_the_unit_and_starts_it_and_uninstalling_undoes_that(cli, units, programs):
    code, out, err = cli(*LIVE, "--user", "no-such-user", "--sink", "a.csv")
    assert code == 0, err
    assert out == ""
    path = units / "pets.service"
    assert path.read_text(encoding="utf-8").startswith(MARK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    said = programs()
    assert said[0].startswith("useradd --system ")
    assert said[1:] == ["systemctl daemon-reload", "systemctl enable pets.service", "systemctl restart pets.service"]
    assert "systemctl status pets" in err
    code, _, err = cli("uninstall-service", "--name", "pets")
    assert code == 0
    assert not path.exists()
    assert programs()[4:] == ["systemctl disable --now pets.service", "systemctl daemon-reload"]
    assert "/var/lib/edgeclf/pets" in err


def test_a_service_that_does_not_start_is_an_error_that_says_where_to_look(cli, programs):
    programs(failing="systemctl")
    code, _, err = cli(*LIVE)
    assert code == 1
    assert "failed with exit code 3" in err.splitlines()[-1]


def test_a_build_that_fails_does_not_keep_a_service_from_another_backend(cli, programs, monkeypatch):
    monkeypatch.setattr(run_command, "backend_version", lambda backend: "8.2.1")
    monkeypatch.setattr(run_command, "candidates", lambda *arguments: [(None, "tensorrt")])
    programs(failing="systemd-run")
    code = cli(*LIVE, "--no-start")[0]
    assert code == 0
    assert "systemctl enable pets.service" in programs()
    assert "systemctl restart pets.service" not in programs()


@pytest.mark.parametrize(("text", "message"), [(None, "there is no "), ("[Unit]\n", "was not made by install-service")])
def test_only_what_was_installed_is_uninstalled(cli, units, programs, text, message):
    if text:
        (units / "pets.service").write_text(text)
    code, _, err = cli("uninstall-service", "--name", "pets")
    assert (code, message in err) == (1, True)
    assert not programs()


def test_a_service_that_is_not_there_is_answered_with_those_that_are(cli, units, programs):
    (units / "others.service").write_text("[Unit]\n")
    assert "installed no service on this machine" in cli("uninstall-service", "--name", "pets")[2]
    for name in ("line 4", "cats"):
        (units / (name + ".service")).write_text(MARK)
    err = cli("uninstall-service", "--name", "pets", "--dry-run")[2]
    assert err.endswith("pets.service; name the service with --name: cats, line 4\n")
    assert not programs()


def test_uninstalling_can_be_tried(cli, units, programs):
    (units / "pets.service").write_text(MARK)
    code, out, _ = cli("uninstall-service", "--name", "pets", "--dry-run")
    assert code == 0
    assert out.splitlines()[0] == "systemctl disable --now pets.service"
    assert (units / "pets.service").exists()
    assert not programs()


def test_a_bundle_that_the_user_cannot_read_is_noted_with_what_to_do(unit, copied, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root sees that others cannot read a file of his")
    tmp_path.chmod(0o711)
    (copied / "manifest.json").chmod(0o600)
    notes = unit(*LIVE, "--user", "no-such-user", bundle=copied)[1]
    closed = [str(folder) for folder in reversed(tmp_path.parents) if not folder.stat().st_mode & 0o001]
    if closed:
        assert f"no-such-user cannot read {closed[0]}: sudo chmod a+x {closed[0]}" in notes
    else:
        assert f"no-such-user cannot read {copied}/manifest.json: sudo chmod -R a+rX {copied}" in notes


def test_words_of_ours_stay_readable_when_a_password_file_is_given(cli, tmp_path):
    (tmp_path / "camera").write_text("secret1\n")
    options = ("--source", "rtsp://me@camera/1", "--password-file", tmp_path / "camera", "--sink", "password.csv")
    code, _, err = cli("install-service", *options, "--dry-run")
    assert code == 0
    assert "note: password.csv will be " in err


@pytest.fixture
def site(tmp_path):
    """Write a configuration file with these options, and return the options that name it."""

    def write(**facts):
        path = tmp_path / "my site%.json"
        path.write_text(json.dumps(facts))
        return "install-service", "--name", "pets", "--config", path

    return write


def test_a_unit_refers_to_its_configuration_file_and_reload_reads_that_again(cli, unit, site, tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    line = site(cameras={"door": {"source": "rtsp://h/1", "roi": [0, 0, 8, 8]}}, threshold=0.75, sink=["a.csv"])
    beside = ("--top-k", "2", "--dry-run", "--for", "door", "--deny", "8")
    _, out, notes = cli(*line[:-1], "my site%.json", *beside)
    lines = out.splitlines()
    words = command(lines)
    assert words == f'--config "{tmp_path}/my site%%.json" --top-k 2 --quiet --for door --deny 8'
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert "Wants=network-online.target" in lines
    assert "a.csv will be /var/lib/edgeclf/pets/a.csv" in notes
    assert verify("\n".join(lines), tmp_path) == ""
    assert not [line for line in unit(*LIVE)[0] if line.startswith("ExecReload")]


def test_secrets_that_a_configuration_file_names_become_credentials(unit, site, tmp_path):
    (tmp_path / "camera").write_text("secret1\n")
    lines, _ = unit(*site(source="rtsp://me@camera/1", json=True, **{"password-file": str(tmp_path / "camera")}))
    assert command(lines).endswith('site%%.json" --password-file "${CREDENTIALS_DIRECTORY}/camera-password"')
    assert f"LoadCredential=camera-password:{tmp_path}/camera" in lines
    assert "secret1" not in "\n".join(lines)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"source": "golden"}, "the source golden in "),
        ({"source": "test://", "mask": "m.png"}, "the mask m.png in "),
        ({"cameras": {"door": {"source": "test://", "mask": "m.png"}}}, "the mask m.png in "),
        ({"source": "test://", "event": ["*"], "on-event": "./it"}, "the program ./it in "),
        (
            {"source": "rtsp://me:secret1@camera/1"},
            "nor in a configuration file: leave it out, and use --password-file",
        ),
    ],
)
def test_a_configuration_file_that_a_service_cannot_use_is_refused(cli, site, bundle, monkeypatch, facts, message):
    monkeypatch.chdir(str(bundle))
    code, out, err = cli(*site(**facts), "--dry-run")
    assert (code, out) == (1, "")
    assert message in err
    assert "secret1" not in err
    assert "password" in message or f"write the absolute path there, such as {bundle}" in err


def test_an_option_beside_a_configuration_file_may_have_a_relative_path(unit, site, bundle, monkeypatch):
    monkeypatch.chdir(str(bundle))
    assert f"--source {bundle}/golden " in command(unit(*site(source="nowhere"), "--source", "golden")[0])


def test_a_configuration_file_that_others_can_change_or_the_user_cannot_read_is_noted(unit, site, tmp_path):
    line = site(source="test://")
    line[-1].chmod(0o602)
    notes = unit(*line, "--user", "no-such-user")[1]
    assert f"users other than root can change {line[-1]}, and with it what the service does" in notes
    assert "no-such-user cannot read /" in notes
