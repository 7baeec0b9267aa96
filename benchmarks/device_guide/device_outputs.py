"""The cases of deploy/README.md's labels, outputs, live page, log, backends and services."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from device_case import CURL, NOT_RUN, RUN, TERM, TEST, TOKEN, VIDEO, Case

MQTT_FILES = {"ca": "ca.pem", "cert": "mqtt.pem", "key": "mqtt.key"}


def output_cases() -> Iterator[Case]:
    """Yield them in the page's order."""
    for group in (_labels, _sinks, _events, _actions, _live, _logs, _models, _cameras, _configuration, _rest):
        yield from group()


def _labels() -> Iterator[Case]:
    yield Case("--threshold", RUN + "photos/ {} 1", shows=r"unknown \(")
    yield Case("--most-distance", RUN + "photos/ {} -100", shows=r"unknown \(.*distance")
    yield Case('"rejected": true', RUN + "photos/ --threshold 1 --json", shows='"rejected": true, "candidate"')
    yield Case("--smooth 0.5", VIDEO + "{}", shows="30 frames classified")
    yield Case("--margin", VIDEO + "--smooth 0.5 {} 0.3", shows="30 frames classified")
    for option in ("--allow", "--deny"):
        yield Case(option, RUN + "photos/ {} 3", shows=r"photos/frame2.jpg.*|frame2")
    yield Case("--roi", RUN + "photos/ {} 0.25,0,0.5,1.0", shows="2 frames")
    yield Case("--rotation", RUN + "photos/ {} 90", shows="2 frames")
    yield Case("--mask mask.png", RUN + "photos/ {}", shows="2 frames")
    yield Case("classify --json", "python3 pets.edge {} cat.jpg", shows='"bundle": "[0-9a-f]{12}", "source": "cat.jpg"')


def _sinks() -> Iterator[Case]:
    yield Case("--json", VIDEO + "{}", shows='"frame": 29')
    yield Case("--quiet", VIDEO + "{}", shows="^30 frames classified|\n30 frames")
    yield Case("--sink results.jsonl", VIDEO + "{}", beside=("wc -l results.jsonl", "^30 "))
    yield Case("results.csv", VIDEO + "--sink {}", beside=("head -2 results.csv; wc -l results.csv", "(?s)label.*31 "))
    yield Case("--sink annotated.webm", VIDEO + "{}", beside=("stat -c %s annotated.webm", r"\d{5}"))
    for suffix in (".mp4", ".avi"):
        yield Case(suffix, VIDEO + "--sink annotated{}", beside=("stat -c %s annotated" + suffix, r"\d{5}"))
    yield Case("annotated-2.mp4", VIDEO + "--sink annotated.mp4", beside=("stat -c %s annotated-2.mp4", r"\d{5}"))
    paho: dict[str, Any] = {"needs": "paho", "refused": (1, "paho-mqtt"), "shows": "0 unreadable$"}
    yield Case("--sink mqtt://HOST/TOPIC", VIDEO + "{}", words={"HOST/TOPIC": "broker/pets"}, **paho)
    files = {f"--mqtt-{name}": f"/etc/edgeclf/{file}" for name, file in MQTT_FILES.items()}
    tls = " ".join(map(" ".join, files.items()))
    words = {"mqtts://": "mqtts://broker/pets", "broker/petsHOST/TOPIC": "broker/pets"}
    for text in ("mqtts://", "mqtts://HOST/TOPIC"):
        yield Case(text, VIDEO + "--sink {} " + tls, words=words, **paho)
    for option, file in files.items():
        line = VIDEO + "--sink mqtts://broker/pets " + tls.replace(f"{option} {file}", "{}")
        yield Case(f"{option} FILE", line, words={"FILE": file}, **paho)
    yield Case(
        "--uncertain FOLDER",
        VIDEO + "{} --uncertain-below 1",
        words={"FOLDER": "new"},
        beside=("ls new | wc -l", r"^\d{2}"),
    )
    yield Case("--device-name", VIDEO + "--json {} 'line 4'", shows='"device": "line 4"')
    yield Case("EDGECLF_DEVICE_NAME", "{}='line 4' " + VIDEO + "--json", shows='"device": "line 4"')
    yield Case(
        "NAME.csv.1",
        "echo frame,captured_at,captured_at_s,label,confidence,age_ms > old.csv; " + VIDEO + "--sink old.csv",
        beside=("cat old.csv.1", "age_ms"),
    )


def _events() -> Iterator[Case]:
    rule = "'*: hold=0, min=0.1'"
    yield Case("--event", VIDEO + f"{{}} {rule}", shows=r"(?m)^ +0  start: (.|\n)*^ +\d+  end: ")
    yield Case("--every 1s", VIDEO + "{} --quiet --sink few.jsonl", beside=("wc -l few.jsonl", "^[1-4] "))
    yield Case("--every", VIDEO + f"--event {rule} {{}} 0", shows="30 frames classified")
    yield Case("--when-motion", VIDEO + "{}", shows=r"frames? classified(, \d+ without motion)?, ")
    yield Case(
        "--snapshots FOLDER",
        VIDEO + f"--event {rule} {{}}",
        words={"FOLDER": "best"},
        beside=("ls best/event-*.jpg | wc -l", r"^[1-9]"),
    )


def _actions() -> Iterator[Case]:
    rule = "'*: hold=0, min=0.1'"
    yield Case(
        "--webhook URL", VIDEO + f"--event {rule} {{}}", words={"URL": "http://127.0.0.1:9/"}, shows="cannot be reached"
    )
    yield Case(
        "--on-event PROGRAM",
        VIDEO + f"--event {rule} {{}} --on-event-arg event.json",
        words={"PROGRAM": "tee"},
        beside=("cat event.json", '"event": "end"'),
    )


def _cameras() -> Iterator[Case]:
    yield Case(
        "python3 pets.edge run --source door=rtsp://10.0.0.7/stream1 --source yard=/dev/video2 --for yard --threshold 0.9",
        words={"rtsp://10.0.0.7/stream1": "photos", "/dev/video2": "video.mp4"},
        shows=r"(?m)^door: 2 frames(.|\n)*^yard: 30 frames|^yard: 30 frames(.|\n)*^door: 2 frames",
    )
    yield Case("--for NAME", RUN + "a=video.mp4 {} --top-k 1 --json", words={"NAME": "a"}, shows='"camera": "a"')


def _configuration() -> Iterator[Case]:
    site = """echo '{"cameras": {"door": {"source": "video.mp4"}}}' > site.json; """
    yield Case("run --config site.json", site + "python3 pets.edge {}", shows="door: 30 frames classified")
    relative = "the source video.mp4 in /.*/site.json is a relative path"
    yield Case("install-service --config site.json", site + "python3 pets.edge {} --dry-run", ends=1, shows=relative)
    unit = r"(?s)run --config /\S*site.json --quiet.*ExecReload=/bin/kill -HUP \$MAINPID"
    line = site.replace("video.mp4", "test://") + "python3 pets.edge install-service {} site.json --dry-run"
    yield Case("--config", line, shows=unit)
    yield Case("--print-config", VIDEO + "--top-k 2 {}", shows='"top-k": 2')


def _page(text: str, line: str, visit: str, answers: str) -> Case:
    """Return the case of a run with a live page, which is visited: curl's status codes are ``answers``, a pattern."""
    return Case(text, line, ends=TERM, shows=r"live page: (\S+)", beside=(visit, answers))


def _live() -> Iterator[Case]:
    own, other = "http://127.0.0.1:8080/", "http://10.0.0.7:8080/"
    yield _page("--live 8080", TEST + "{}", CURL + own, "^200")
    link = "$(grep -o 'http[^ ]*token[^ ]*' OUTPUT | head -1 | sed 's/[a-z0-9.]*:8080/10.0.0.7:8080/')"
    visit = f'{CURL}{other}; {CURL}-L -c jar "{link}"'
    yield _page("--live 0.0.0.0:8080", TEST + "{}", visit, "^40[13] 200")
    outside, file = TEST + "--live 0.0.0.0:8080 ", "--live-token-file /etc/edgeclf/token"
    bearer = f"{CURL}-H 'Authorization: Bearer {TOKEN}' {other}"
    yield _page("EDGECLF_LIVE_TOKEN", f"{{}}={TOKEN} " + outside, bearer, "^200")
    yield _page("--live-token-file", outside + file.replace("--live-token-file", "{}"), bearer, "^200")
    yield _page("Authorization: Bearer TOKEN", outside + file, bearer, "^200")
    wrong = f"for i in 1 2 3 4 5 6 7 8 9 10 11; do {CURL}'{other}?token=wrong'; done"
    yield _page("After ten wrong tokens", outside, wrong, "^(40[13] ){10}429")
    yield _page("--live-open", outside + "{}", CURL + other, "^200")
    visit = f"{CURL}-F file=@cat.jpg {own}v1/classify; {CURL}-d x {own}v1/classify"
    yield _page("--live-classify", TEST + "--live 8080 {}", visit, "^200 415")
    pem = TEST + "--live 8080 --live-cert /etc/edgeclf/live.pem --live-key /etc/edgeclf/live.key"
    for option in ("--live-cert", "--live-key"):
        visit = CURL + "--cacert /etc/edgeclf/ca.pem https://localhost:8080/"
        yield _page(option, pem.replace(option, "{}"), visit, "^200")
    named = CURL + "http://camera.example.com:8080/"
    yield _page("--live-name camera.example.com", TEST + "--live 8080 {}", named, "^200")
    names = [f"{CURL}--resolve {name}:8080:10.0.0.7 http://{name}:8080/" for name in ("device.local", "evil.example")]
    yield _page("HOST.local", outside + "--live-open", "; ".join(names), "^200 4")
    behind = "--live 8080 --live-name www.example.com --live-proxy 127.0.0.1"
    proxied = "http://www.example.com/line4/"
    visit = f"{CURL}{proxied}; {CURL}-L -c jar '{proxied}?token={TOKEN}'"
    for text in (behind, "--live-proxy"):
        yield _page(text, f"{TEST}{behind.replace(text, '{}')} {file}", visit, "^40[13] 200")
    visit = f"curl -sS -m 2 -o /dev/null -D - {own}picture.mjpg; true"
    yield _page("X-Accel-Buffering: no", TEST + "--live 8080", visit, "X-Accel-Buffering: no")


def _logs() -> Iterator[Case]:
    for text in ("--verbose", "-v", "--log-level info"):
        yield Case(text, VIDEO + "{}", shows=r"(?m)^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d{3}")
    for level in ("debug", "warning", "error"):
        yield Case(level, VIDEO + "--log-level {}", shows="30 frames classified")
    yield Case("--log-level", VIDEO + "{} everything", ends=2, shows="invalid choice.*debug")
    yield Case("<&- >&- 2>&-", VIDEO + "--sink closed.jsonl {}", beside=("wc -l closed.jsonl", "^30 "))


def _models() -> Iterator[Case]:
    yield Case("--backend", VIDEO + "{} opencv", shows="fp32 on opencv")
    yield Case("--model", VIDEO + "{} fp32", shows="fp32 on")
    yield Case("--tune", VIDEO + "{}", shows="(?s)milliseconds.*30 frames classified")
    yield Case("--no-tune", VIDEO + "{}", shows="30 frames classified")
    for option in ("--baseline learn", "--baseline relearn", "--no-health"):
        yield Case(option, VIDEO + "{}", shows="30 frames classified")
    for backend in ("tensorrt", "tensorrt-rtx"):
        yield Case(backend, VIDEO + "--backend {}", ends=1, shows="tensorrt|TensorRT", not_here="no NVIDIA GPU")
    for backend in ("onnxruntime", "openvino", "opencv"):
        yield Case(backend, VIDEO + "--backend {}", shows=f"on {backend}", needs=backend, refused=(1, backend))


def _rest() -> Iterator[Case]:
    # Correct on Arm; another processor may compute it differently, and refuse it.
    line = VIDEO + "--model {} || true"
    yield Case("int8-arm", line, shows="int8-arm on onnxruntime", not_here="no Arm processor")
    install = "python3 pets.edge install-service --source test:// --dry-run "
    for text in ("install-service", "--dry-run"):
        yield Case(text, install.replace(text, "{}"), shows="(?s)ExecStart=.*Restart=always.*systemctl")
    yield Case("--user", install + "{} camera", shows="User=camera")
    yield Case("--name", install + "{} line4", shows="line4.service")
    yield Case("--no-start", install + "{}", shows="systemctl")
    yield Case("--overwrite", install + "{}", shows="systemctl")
    yield Case(
        "--password-file",
        install.replace("test://", "rtsp://admin@10.0.0.7/stream1") + "{} /etc/edgeclf/camera",
        shows="LoadCredential=",
    )
    for text in ("uninstall-service", "uninstall-service --name pets"):
        yield Case(text, "python3 pets.edge {} --dry-run", ends=1, shows="has made no service")
    yield Case(
        "PYTHONPATH=pets.edge",
        "{} python3 -c 'import edgeclf_runtime; print(edgeclf_runtime.__file__)'",
        shows="pets.edge/edgeclf_runtime",
    )
    yield Case("XDG_CACHE_HOME", "{}=$PWD/cache " + VIDEO + "--tune", beside=("find cache -type f", "cache/edgeclf"))
    yield Case(
        "XDG_STATE_HOME",
        "{}=$PWD/state " + VIDEO + "--sink mqtt://broker/pets",
        shows="0 unreadable$",
        needs="paho",
        refused=(1, "paho-mqtt"),
        beside=("ls state", "edgeclf|"),
    )
    yield Case("OMP_NUM_THREADS", "{}=1 " + VIDEO, shows="30 frames classified")
    nobody = "cd /; setpriv --reuid=12345 --regid=12345 --clear-groups env -u HOME -u TMPDIR "
    line = nobody + "python3 $OLDPWD/pets.edge run --tune --source $OLDPWD/video.mp4"
    shared: dict[str, Any] = {"needs": "shared", "refused": (NOT_RUN, "the interpreter is in root's home")}
    yield Case("--user 12345", line, beside=("ls -d /tmp/edgeclf-12345", "12345"), **shared)
    yield Case("/tmp/edgeclf-12345", "ls -ld {}; rm -r {}", shows="drwx------", **shared)
    yield Case(
        "print(item.result.label, item.result.confidence, item.age_ms)",
        "PYTHONUNBUFFERED=1 PYTHONPATH=pets.edge python3 program.py",
        ends=TERM,
        shows=r"^\w+ \d\.\d+ \d+\.\d+$",
    )
