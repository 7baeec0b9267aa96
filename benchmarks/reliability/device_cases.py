"""The cases of device_page.py: words of deploy/README.md, the command line that they are part of, and how it ends.

A line's ``{}`` are the words of the page, with what stands for something replaced (``words``); the rest of the line is
what they need around them.  ``shows`` is a pattern of what must come, on stdout or stderr.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

TERM = 143  # the run has no end: it gets SIGTERM when it has shown what it must
CAMERA_FILE = "--password-file /etc/edgeclf/camera"
BROKER_FILE = "--mqtt-password-file /etc/edgeclf/camera"
RUN = "python3 pets.edge run --source "
FILM = RUN + "film.mp4 "
TEST = RUN + "test:// "
FRAME = r'"state": "live", "label"|^ +\d+  \S.* \d\.\d{3}  \(.*age [0-9.]+ ms'
CURL = "curl -sS -o /dev/null -w '%{http_code} ' "


class Case(NamedTuple):
    """Words of the page in a command line.

    text        the words, as the page has them
    line        the command line for a shell; the words alone unless it is given
    ends        its exit code
    shows       a pattern of its output, which is waited for before SIGTERM
    words       what stands on the page for something, and for what here
    needs       what an interpreter may lack: "gstreamer", "onnxruntime", "openvino", "paho", "tensorrt"
    refused     the exit code and a pattern of the output without that
    beside      a command line that is run while the first still runs, or after it, and a pattern of its output
    usb         whether /dev/video0 has a camera
    not_here    why the real thing is not possible here; ``ends`` and ``shows`` are those of the error then
    """

    text: str
    line: str = "{}"
    ends: int = 0
    shows: str = ""
    words: dict[str, str] = {}
    needs: str = ""
    refused: tuple[int, str] = (1, "")
    beside: tuple[str, str] = ("", "")
    usb: bool = False
    not_here: str = ""


def cases() -> Iterator[Case]:
    """Return all cases, in the page's order."""
    for group in (_commands, _sources, _usb, _films, _passwords, _losses, _labels, _sinks, _live, _logs, _models, _rest):
        yield from group()


def _commands() -> Iterator[Case]:
    yield Case("python3 NAME.edge COMMAND", words={"NAME": "pets", "COMMAND": "info"}, shows="digits|labels")
    for text in ("python3 NAME.edge doctor", "doctor"):
        yield Case(text, "{}" if "3" in text else "python3 pets.edge {}", words={"NAME": "pets"}, shows="camera")
    yield Case("info", "python3 pets.edge {}", shows="verified")
    yield Case("selftest", "python3 pets.edge {}", shows="fp32")
    yield Case("classify IMAGE…", "python3 pets.edge {}", words={"IMAGE…": "cat.jpg photos"}, shows="cat.jpg.*\n.*frame2")
    yield Case("'photos/**/*.jpg'", "python3 pets.edge classify {}", shows="photos/in it/deep.jpg")
    yield Case("run --source URI", "python3 pets.edge {}", words={"URI": "film.mp4"}, shows="30 frames classified")
    no_gpu = {"ends": 1, "shows": "TensorRT|tensorrt", "not_here": "no NVIDIA GPU"}
    yield Case("build", "python3 pets.edge {}", **no_gpu)
    yield Case("python3 NAME.edge build", words={"NAME": "pets"}, **no_gpu)
    yield Case("bench", "python3 pets.edge {} --repeat 5", shows="p50.*p90.*p95.*p99")


def _sources() -> Iterator[Case]:
    no_csi = {"not_here": "no CSI camera", "ends": 1, "needs": "gstreamer", "refused": (1, "GStreamer")}
    yield Case("--source", RUN + "cat.jpg", shows="1 frames? classified")
    yield Case("csi://0", RUN + "{}", shows="nvarguscamerasrc", **no_csi)
    yield from _endless("/dev/video0", usb=True)
    yield Case("/dev/video0", RUN + "{}", ends=1, shows="/dev/video0", not_here="no camera: the error")
    yield from _endless("v4l2://0", usb=True)
    for folder in ("/dev/v4l/by-id/…", "/dev/v4l/by-path/…"):
        yield from _endless(folder, words={"…": "usb-camera-video-index0"}, usb=True)
    yield from _endless("a link by a udev rule", RUN + "/dev/line4", usb=True)
    address = "[USER@]HOST/PATH"
    yield from _endless(f"rtsp://{address}", RUN + "{} " + CAMERA_FILE, words={address: "admin@10.0.0.7/stream1"})
    yield from _endless(f"http://{address}", RUN + "{} " + CAMERA_FILE, words={address: "admin@10.0.0.8/stream"})
    yield from _endless(f"http://{address}", RUN + "{} --fps 5", words={address: "10.0.0.8/picture.jpg"})
    yield Case(f"http://{address}", RUN + "{}", words={address: "10.0.0.8/film.mp4"}, shows="30 frames classified, 0 drop")
    pipeline = {"gst://PIPELINE": "'gst://videotestsrc is-live=true ! video/x-raw,width=320,height=240'"}
    needs: dict[str, Any] = {"needs": "gstreamer", "refused": (1, "GStreamer")}
    yield from _endless("gst://PIPELINE", words=pipeline, **needs)
    raw = "videoconvert ! video/x-raw,format=BGR ! appsink"
    yield from _endless(raw, RUN + "'gst://videotestsrc is-live=true ! {}'", **needs)
    for name in ("GRAY8", "BGRx", "BGRA", "RGBx", "RGBA"):
        yield from _endless(name, RUN + "'gst://videotestsrc ! video/x-raw,format={} ! appsink'", **needs)
    for caps, layout in (("video/x-raw,format=I420", "YUV"), ("video/x-raw,format=GRAY16_LE", "16 bits"), ("video/x-bayer", "Bayer"), ("image/jpeg", "JPEG")):
        encode = "jpegenc ! " if "jpeg" in caps else ""
        line = f"'gst://videotestsrc ! {encode}{caps} ! appsink'"
        yield Case(layout, RUN + line, ends=1, shows="videoconvert|bayer2rgb|jpegdec", **needs)
    yield Case("film.mp4", RUN + "{}", shows="30 frames classified, 0 dropped")
    yield Case("--policy latest", FILM + "{}", shows="frames classified")
    yield Case("photos/", RUN + "{}", shows="2 frames classified")
    yield Case("photos/*.jpg", RUN + "'{}' --fps 2", shows="frame2.*\n.*frame10")
    yield Case("--fps", RUN + "photos/ {} 2 --json", shows='"label"')
    yield Case("cat.jpg", RUN + "{}", shows="1 frames? classified")
    yield from _endless("test://")
    lost = {"hang": "no frame", "die": "ended|exit", "freeze": "same picture|change", "lose": "no frame any more", "resize": "320"}
    for fault, why in lost.items():
        text = "test://?fault=hang&after=100" if fault == "hang" else fault
        source = "{}" if fault == "hang" else "test://?fault={}&after=30"
        line = RUN + f"'{source}' --json --frozen 2"
        yield Case(text, line, ends=TERM, shows=r'(?s)"state": "lost".*(' + why + ').*"state": "live", "reason"')
    for name in ("a:b.mp4", "-x.avi"):
        yield Case(name, RUN + "{}", shows="30 frames classified")
    yield Case("shot[1].png", RUN + "'{}'", shows="1 frames? classified")
    yield Case("file:///FOLDER/FILE", RUN + "{}", words={"/FOLDER/FILE": "$PWD/film.mp4"}, shows="30 frames classified")
    yield Case("--threads", TEST + "{} 1", ends=TERM, shows=FRAME)
    yield Case("redirects and playlists are refused", RUN + "http://10.0.0.8/moved", ends=1, shows="10.0.0.8/elsewhere")
    yield Case("an option that is given twice is an error", TEST + "--source film.mp4", ends=2, shows="more than once")
    yield Case("Frames of more than 50 megapixels are refused", RUN + "test:// --width 8000 --height 8000", ends=1, shows="megapixels")


def _endless(text: str, line: str = RUN + "{}", **options: Any) -> Iterator[Case]:
    yield Case(text, line, **{"ends": TERM, "shows": FRAME, **options})


def _usb() -> Iterator[Case]:
    size = "--width 1280 --height 720 --fps 30"
    for option in ("--width", "--height"):
        yield from _endless(option, RUN + "/dev/video0 {} 640", usb=True)
    yield from _endless("1280x720 MJPG at 30 granted", RUN + "/dev/video0 " + size, shows=r"(?s)1280x720 MJPG at 30 granted.* age ", usb=True)
    yield from _endless("--format MJPG", RUN + "/dev/video0 {} --json", shows=r'(?s)MJPG at [^ ]+ granted.*"label"', usb=True)
    yield from _endless("--control exposure=100", RUN + "/dev/video0 {} --control auto_exposure=1", usb=True)
    yield Case("A wrong name lists the camera's", RUN + "/dev/video0 --control expsure=100", ends=1, shows="exposure", usb=True)
    yield from _endless("on", RUN + "/dev/video0 --control white_balance_automatic={}", usb=True)
    yield from _endless("off", RUN + "/dev/video0 --control white_balance_automatic={}", usb=True)
    yield from _endless("if it is not what was asked, a warning says both", RUN + "/dev/video0 --width 800 --height 600", shows="(?s)800x600 asked, 640x480 .* granted.* age ", usb=True)
    yield from _endless("--format", RUN + "/dev/video0 {} YUYV", usb=True)
    yield from _endless("--control", RUN + "/dev/video0 {} gain=10", usb=True)


def _films() -> Iterator[Case]:
    yield Case("--smooth", FILM + "{} 1", shows="30 frames classified")
    yield Case("position_s", FILM + "--json", shows='"position_s": 1.93')
    yield Case("A film that ends before its header says so is an error", RUN + "cut.mp4", ends=1, shows=r"\d+ of 30|30.*\d+")
    yield Case("more than 2 % of the frames (and more than 2) cannot be decoded", RUN + "damaged.avi", ends=1, shows="5 unreadable")
    yield Case("fewer are a warning", RUN + "scratched.avi", shows="2 unreadable")


def _passwords() -> Iterator[Case]:
    yield from _endless("python3 pets.edge run --source rtsp://admin@10.0.0.7/stream1 --password-file /etc/edgeclf/camera", "{}")
    yield from _endless("python3 pets.edge run --source 'http://10.0.0.8/video?user=me&pwd={password}' --password-file /etc/edgeclf/camera", "{}")
    pipeline = "python3 pets.edge run --source 'gst://rtspsrc location=rtsp://10.0.0.9/x user-id=me user-pw={password} ! decodebin'"
    variable = 'EDGECLF_CAMERA_PASSWORD="$(cat /etc/edgeclf/camera)" '
    yield from _endless(pipeline, variable + "{}", needs="gstreamer", refused=(1, "GStreamer"))
    yield from _endless("EDGECLF_CAMERA_PASSWORD", '{}="$(cat /etc/edgeclf/camera)" ' + RUN + "rtsp://admin@10.0.0.7/stream1")
    yield from _endless("--password-file FILE", RUN + "rtsp://admin@10.0.0.7/stream1 {}", words={"FILE": "/etc/edgeclf/camera"})
    broker = "--sink mqtt://admin@broker:1884/pets "
    paho: dict[str, Any] = {"needs": "paho", "refused": (1, "paho-mqtt")}
    yield Case("EDGECLF_MQTT_PASSWORD", '{}="$(cat /etc/edgeclf/camera)" ' + FILM + broker, shows="30 frames classified, 0 dropped, 0 unreadable$", **paho)
    yield Case("--mqtt-password-file", FILM + broker + "{} /etc/edgeclf/camera", shows="0 unreadable$", **paho)
    yield Case("mqtt://USER@HOST/TOPIC", FILM + "--sink {} " + BROKER_FILE, words={"USER@HOST": "admin@broker:1884"}, shows="0 unreadable$", **paho)
    typed = "rtsp://admin:s3cret%2Fwith%23odd%40signs%25%20%22%27%21@10.0.0.7/stream1"
    yield from _endless("A password in an address still works, percent-encoded", RUN + typed, shows=r"(?s)process list.*--password-file.* age [0-9]")
    yield Case("a wrong password (401)", "EDGECLF_CAMERA_PASSWORD=wrong " + RUN + "rtsp://admin@10.0.0.7/stream1", ends=1, shows="401|password")
    yield Case("a wrong path", RUN + "rtsp://admin@10.0.0.7/else " + CAMERA_FILE, ends=1, shows="404|path")
    yield Case("a port that refuses", RUN + "rtsp://10.0.0.7:555/x", ends=1, shows="refused")
    yield Case("a name that is not known", RUN + "rtsp://nowhere.example/x", ends=1, shows="nowhere.example")
    yield Case("a host that cannot be reached", RUN + "rtsp://10.9.9.9/x", ends=1, shows="10.9.9.9")
    yield Case("gst-launch-1.0", variable + RUN + "'gst://rtspsrc location=rtsp://10.0.0.9/wrong user-id=me user-pw={password} ! decodebin'", ends=1, shows=r"gst-launch-1.0.*\$EDGECLF_CAMERA_PASSWORD", needs="gstreamer", refused=(1, "GStreamer"))
    for name in ("OPENCV_LOG_LEVEL", "GST_DEBUG"):
        yield Case(name, f"{{}}={'DEBUG' if 'CV' in name else 2} " + FILM, shows="30 frames classified")
    yield Case("SSL_CERT_FILE", "{}=/etc/edgeclf/ca.pem " + RUN + "https://10.0.0.8/picture.jpg", ends=1, shows="refused|certificate", not_here="the camera here has no https")


def _losses() -> Iterator[Case]:
    gone = RUN + "rtsp://10.0.0.7:555/x "
    yield Case("--timeout", RUN + "'test://?fault=hang&after=10' --json {} 1", ends=TERM, shows='no frame.*1')
    for option in ("--frozen", "--frozen 0"):
        yield from _endless(option, RUN + "test:// {}" + ("" if " " in option else " 5"))
    yield Case("--wait", gone + "{} --json", ends=TERM, shows='"state": "lost".*refused')
    yield Case("--no-wait", gone + "{}", ends=1, shows="refused")
    yield Case("What waiting does not fix", RUN + "missing.mp4 --wait", ends=1, shows="missing.mp4")


def _labels() -> Iterator[Case]:
    yield Case("--threshold", RUN + "photos/ {} 1", shows=r"unknown \(")
    yield Case('"rejected": true', RUN + "photos/ --threshold 1 --json", shows='"rejected": true, "candidate"')
    yield Case("--smooth 0.5", FILM + "{}", shows="30 frames classified")
    yield Case("--margin", FILM + "--smooth 0.5 {} 0.3", shows="30 frames classified")
    for option in ("--allow", "--deny"):
        yield Case(option, RUN + "photos/ {} 3", shows=r"photos/frame2.jpg.*|frame2")
    yield Case("--roi", RUN + "photos/ {} 0.25,0,0.5,1.0", shows="2 frames")
    yield Case("--rotation", RUN + "photos/ {} 90", shows="2 frames")
    yield Case("classify --json", "python3 pets.edge {} cat.jpg", shows='"bundle": "[0-9a-f]{12}", "source": "cat.jpg", "device"')


def _sinks() -> Iterator[Case]:
    yield Case("--json", FILM + "{}", shows='"frame": 29')
    yield Case("--quiet", FILM + "{}", shows="^30 frames classified|\n30 frames")
    yield Case("--sink results.jsonl", FILM + "{}", beside=("wc -l results.jsonl", "^30 "))
    yield Case("results.csv", FILM + "--sink {}", beside=("head -2 results.csv; wc -l results.csv", "(?s)label.*31 "))
    yield Case("--sink annotated.webm", FILM + "{}", beside=("stat -c %s annotated.webm", r"\d{5}"))
    for suffix in (".mp4", ".avi"):
        yield Case(suffix, FILM + "--sink annotated{}", beside=("stat -c %s annotated" + suffix, r"\d{5}"))
    yield Case("annotated-2.mp4", FILM + "--sink annotated.mp4", beside=("stat -c %s annotated-2.mp4", r"\d{5}"))
    paho: dict[str, Any] = {"needs": "paho", "refused": (1, "paho-mqtt"), "shows": "0 unreadable$"}
    yield Case("--sink mqtt://HOST/TOPIC", FILM + "{}", words={"HOST/TOPIC": "broker/pets"}, **paho)
    tls = "--mqtt-ca /etc/edgeclf/ca.pem --mqtt-cert /etc/edgeclf/mqtt.pem --mqtt-key /etc/edgeclf/mqtt.key"
    for text in ("mqtts://", "mqtts://HOST/TOPIC"):
        yield Case(text, FILM + "--sink {} " + tls, words={"mqtts://": "mqtts://broker/pets", "broker/petsHOST/TOPIC": "broker/pets"}, **paho)
    for option, file in (("ca", "ca.pem"), ("cert", "mqtt.pem"), ("key", "mqtt.key")):
        rest = " ".join(part for part in tls.split("--") if not part.startswith(f"mqtt-{option} ")).replace("mqtt-", "--mqtt-")
        yield Case(f"--mqtt-{option} FILE", FILM + "--sink mqtts://broker/pets " + rest + " {}", words={"FILE": f"/etc/edgeclf/{file}"}, **paho)
    yield Case("--uncertain FOLDER", FILM + "{} --uncertain-below 1", words={"FOLDER": "new"}, beside=("ls new | wc -l", r"^\d{2}"))
    yield Case("--device-name", FILM + "--json {} 'line 4'", shows='"device": "line 4"')
    yield Case("EDGECLF_DEVICE_NAME", "{}='line 4' " + FILM + "--json", shows='"device": "line 4"')
    yield Case("NAME.csv.1", "echo a,b > old.csv; " + FILM + "--sink old.csv", beside=("cat old.csv.1", "a,b"))


def _live() -> Iterator[Case]:
    page = r"live page: (\S+)"
    own = "http://127.0.0.1:8080/"
    yield Case("--live 8080", TEST + "{}", ends=TERM, shows=page, beside=(CURL + own, "^200"))
    link = "$(grep -o 'http[^ ]*' OUTPUT | head -1 | sed 's/[a-z0-9.]*:8080/10.0.0.7:8080/')"
    yield Case("--live 0.0.0.0:8080", TEST + "{}", ends=TERM, shows=page, beside=(CURL + "http://10.0.0.7:8080/; " + CURL + f'-L -c jar "{link}"', "^40[13] 200"))
    outside = TEST + "--live 0.0.0.0:8080 "
    token = "a-token-of-some-length"
    bearer = CURL + f"-H 'Authorization: Bearer {token}' http://10.0.0.7:8080/"
    yield Case("EDGECLF_LIVE_TOKEN", f"{{}}={token} " + outside, ends=TERM, shows=page, beside=(bearer, "^200"))
    yield Case("--live-token-file", outside + "{} /etc/edgeclf/token", ends=TERM, shows=page, beside=(bearer, "^200"))
    yield Case("Authorization: Bearer TOKEN", outside + "--live-token-file /etc/edgeclf/token", ends=TERM, shows=page, beside=(bearer, "^200"))
    wrong = CURL + "'http://10.0.0.7:8080/?token=wrong'"
    yield Case("Ten wrong", outside, ends=TERM, shows=page, beside=(f"for i in 1 2 3 4 5 6 7 8 9 10 11; do {wrong}; done", "^(40[13] ){10}429"))
    yield Case("--live-open", outside + "{}", ends=TERM, shows=page, beside=(CURL + "http://10.0.0.7:8080/", "^200"))
    pem = "--live-cert /etc/edgeclf/live.pem --live-key /etc/edgeclf/live.key"
    for option in ("--live-cert", "--live-key"):
        other = pem.replace(option, "{}")
        yield Case(option, TEST + "--live 8080 " + other, ends=TERM, shows=page, beside=(CURL + "--cacert /etc/edgeclf/ca.pem https://localhost:8080/", "^200"))
    named = CURL + "http://camera.example.com:8080/"
    yield Case("--live-name camera.example.com", TEST + "--live 8080 {}", ends=TERM, shows=page, beside=(named, "^200"))
    yield Case("HOST.local", outside + "--live-open", ends=TERM, shows=page, beside=(CURL + "--resolve device.local:8080:10.0.0.7 http://device.local:8080/; " + CURL + "--resolve evil.example:8080:10.0.0.7 http://evil.example:8080/", "^200 4"))
    behind = "--live 8080 --live-name www.example.com --live-proxy 127.0.0.1"
    visit = CURL + "http://www.example.com/line4/; " + CURL + f"-L -c jar 'http://www.example.com/line4/?token={token}'"
    for text in (behind, "--live-proxy"):
        rest = behind.replace("--live-proxy", "{}") if text == "--live-proxy" else "{}"
        yield Case(text, TEST + rest + " --live-token-file /etc/edgeclf/token", ends=TERM, shows=page, beside=(visit, "^40[13] 200"))
    yield Case("X-Accel-Buffering: no", TEST + "--live 8080", ends=TERM, shows=page, beside=(f"curl -sS -m 2 -o /dev/null -D - {own}picture.mjpg; true", "X-Accel-Buffering: no"))


def _logs() -> Iterator[Case]:
    for text in ("--verbose", "-v", "--log-level info"):
        yield Case(text, FILM + "{}", shows=r"(?m)^\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d[.,]\d{3}")
    for level in ("debug", "warning", "error"):
        yield Case(level, FILM + "--log-level {}", shows="30 frames classified")
    yield Case("--log-level", FILM + "{} everything", ends=2, shows="invalid choice.*debug")
    yield Case("<&- >&- 2>&-", FILM + "--sink closed.jsonl {}", beside=("wc -l closed.jsonl", "^30 "))


def _models() -> Iterator[Case]:
    yield Case("--backend", FILM + "{} opencv", shows="fp32 on opencv")
    yield Case("--model", FILM + "{} fp32", shows="fp32 on")
    yield Case("--tune", FILM + "{}", shows="(?s)ms.*30 frames classified")
    for backend in ("tensorrt", "tensorrt-rtx"):
        yield Case(backend, FILM + "--backend {}", ends=1, shows="tensorrt|TensorRT", not_here="no NVIDIA GPU")
    for backend in ("onnxruntime", "openvino", "opencv"):
        yield Case(backend, FILM + "--backend {}", shows=f"on {backend}", needs=backend, refused=(1, backend))


def _rest() -> Iterator[Case]:
    yield Case("int8-arm", FILM + "--model {}", shows="int8-arm on onnxruntime", needs="onnxruntime", refused=(1, "onnxruntime"))
    install = "python3 pets.edge install-service --source test:// --dry-run "
    for text in ("install-service", "--dry-run"):
        yield Case(text, install.replace(text, "{}"), shows="(?s)ExecStart=.*Restart=always.*systemctl")
    yield Case("--user", install + "{} camera", shows="User=camera")
    yield Case("--name", install + "{} line4", shows="line4.service")
    yield Case("--no-start", install + "{}", shows="systemctl")
    yield Case("--overwrite", install + "{}", shows="systemctl")
    yield Case("--password-file", install.replace("test://", "rtsp://admin@10.0.0.7/stream1") + "{} /etc/edgeclf/camera", shows="LoadCredential=")
    for text in ("uninstall-service", "uninstall-service --name pets"):
        yield Case(text, "python3 pets.edge {} --dry-run", shows="systemctl")
    yield Case("PYTHONPATH=pets.edge", "{} python3 -c 'import edgeclf_runtime; print(edgeclf_runtime.__file__)'", shows="pets.edge/edgeclf_runtime")
    yield Case("XDG_CACHE_HOME", "{}=$PWD/cache " + FILM + "--tune", beside=("find cache -type f", "cache/edgeclf"))
    yield Case("XDG_STATE_HOME", "{}=$PWD/state " + FILM + "--sink mqtt://broker/pets", shows="0 unreadable$", needs="paho", refused=(1, "paho-mqtt"), beside=("ls state", "edgeclf|"))
    yield Case("--user 12345", "cd /; setpriv --reuid=12345 --regid=12345 --clear-groups " + "env -u HOME python3 $OLDPWD/pets.edge run --tune --source $OLDPWD/film.mp4", beside=("ls -d /tmp/edgeclf-12345", "12345"))
    yield Case("/tmp/edgeclf-12345", "ls -ld {}", shows="drwx------")
