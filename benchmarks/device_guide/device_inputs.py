"""The cases of deploy/README.md's commands, sources, passwords and losses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from device_case import BROKER_FILE, CAMERA_FILE, FRAME, RUN, TERM, TEST, VIDEO, Case, endless


def input_cases() -> Iterator[Case]:
    """Yield them in the page's order."""
    for group in _GROUPS:
        yield from group()


def _commands() -> Iterator[Case]:
    yield Case("python3 NAME.edge COMMAND", words={"NAME": "pets", "COMMAND": "info"}, shows="digits|labels")
    for text in ("python3 NAME.edge doctor", "doctor"):
        yield Case(
            text, "{}" if "3" in text else "python3 pets.edge {}", words={"NAME": "pets"}, shows="camera", usb=True
        )
    yield Case("info", "python3 pets.edge {}", shows="verified")
    yield Case("selftest", "python3 pets.edge {}", shows="fp32")
    yield Case(
        "classify IMAGE…", "python3 pets.edge {}", words={"IMAGE…": "cat.jpg photos"}, shows="cat.jpg.*\n.*frame2"
    )
    yield Case("'photos/**/*.jpg'", "python3 pets.edge classify {}", shows="photos/in it/deep.jpg")
    yield Case("run", "python3 pets.edge {} --source video.mp4", shows="30 frames classified")
    yield Case("run --source URI", "python3 pets.edge {}", words={"URI": "video.mp4"}, shows="30 frames classified")
    no_gpu = {"ends": 1, "shows": "TensorRT|tensorrt", "not_here": "no NVIDIA GPU"}
    yield Case("build", "python3 pets.edge {}", **no_gpu)
    yield Case("python3 NAME.edge build", words={"NAME": "pets"}, **no_gpu)
    yield Case("bench", "python3 pets.edge {} --repeat 5", shows="p50.*p90.*p95.*p99")
    yield Case("report", "python3 pets.edge {} --repeat 5", shows="pass: .* golden labels agree")


def _sources() -> Iterator[Case]:
    no_csi = {"not_here": "no CSI camera", "ends": 1, "needs": "gstreamer", "refused": (1, "GStreamer")}
    yield Case("--source", RUN + "cat.jpg", shows="1 frames? classified")
    yield Case("csi://0", RUN + "{}", shows="nvarguscamerasrc", **no_csi)
    yield from endless("/dev/video0", usb=True)
    yield Case("/dev/video0", RUN + "{}", ends=1, shows="/dev/video0", not_here="no camera: the error")
    yield from endless("v4l2://0", usb=True)
    for folder in ("/dev/v4l/by-id/…", "/dev/v4l/by-path/…"):
        yield from endless(folder, words={"…": "usb-camera-video-index0"}, usb=True)
    yield from endless("a link made by a udev rule", RUN + "/dev/line4", usb=True)
    address = "[USER@]HOST/PATH"
    yield from endless(f"rtsp://{address}", RUN + "{} " + CAMERA_FILE, words={address: "admin@10.0.0.7/stream1"})
    stream = "--source rtsp://admin@10.0.0.7/stream1 "
    for option in ("--decode auto", "--decode software"):
        yield from endless(option, "python3 pets.edge run " + stream + CAMERA_FILE + " {}")
    no_decoder = {"ends": 1, "shows": "hardware|GStreamer", "not_here": "no decoder in hardware: the error"}
    yield Case("--decode hardware", RUN + "video.mp4 {}", **no_decoder)
    line = "python3 pets.edge run --source rtsp://… --decode hardware --frames 1000 --log-level info"
    yield Case(line, "{} " + CAMERA_FILE, words={"…": "admin@10.0.0.7/stream1"}, **no_decoder)
    yield from endless(f"http://{address}", RUN + "{} " + CAMERA_FILE, words={address: "admin@10.0.0.8/stream"})
    yield from endless(f"http://{address}", RUN + "{} --fps 5", words={address: "10.0.0.8/picture.jpg"})
    yield Case(
        f"http://{address}", RUN + "{}", words={address: "10.0.0.8/video.mp4"}, shows="30 frames classified, 0 drop"
    )


def _pipelines() -> Iterator[Case]:
    pipeline = {"gst://PIPELINE": "'gst://videotestsrc is-live=true ! video/x-raw,width=320,height=240'"}
    needs: dict[str, Any] = {"needs": "gstreamer", "refused": (1, "GStreamer")}
    yield from endless("gst://PIPELINE", words=pipeline, **needs)
    raw = "videoconvert ! video/x-raw,format=BGR ! appsink"
    yield from endless(raw, RUN + "'gst://videotestsrc is-live=true ! {}'", **needs)
    for name in ("GRAY8", "BGRx", "BGRA", "RGBx", "RGBA"):
        yield from endless(name, RUN + "'gst://videotestsrc ! video/x-raw,format={} ! appsink'", **needs)
    for caps, layout in (
        ("video/x-raw,format=I420", "YUV"),
        ("video/x-raw,format=GRAY16_LE", "16 bits"),
        ("video/x-bayer", "Bayer"),
        ("image/jpeg", "JPEG"),
    ):
        encode = "jpegenc ! " if "jpeg" in caps else ""
        line = f"'gst://videotestsrc ! {encode}{caps} ! appsink'"
        yield Case(layout, RUN + line, ends=1, shows="videoconvert|bayer2rgb|jpegdec", **needs)


def _files() -> Iterator[Case]:
    yield Case("video.mp4", RUN + "{}", shows="30 frames classified, 0 dropped")
    yield Case("--policy latest", VIDEO + "{}", shows="frames classified")
    yield Case("photos/", RUN + "{}", shows="2 frames classified")
    yield Case("photos/*.jpg", RUN + "'{}' --fps 2", shows="frame2.*\n.*frame10")
    yield Case("--fps", RUN + "photos/ {} 2 --json", shows='"label"')
    yield Case("cat.jpg", RUN + "{}", shows="1 frames? classified")


def _generated() -> Iterator[Case]:
    yield from endless("test://")
    lost = {
        "hang": "no frame",
        "die": "ended|exit",
        "freeze": "same image|change",
        "lose": "no more frames",
        "resize": "320",
    }
    for fault, why in lost.items():
        text = "test://?fault=hang&after=100" if fault == "hang" else fault
        source = "{}" if fault == "hang" else "test://?fault={}&after=30"
        line = RUN + f"'{source}' --json --frozen 2"
        yield Case(text, line, ends=TERM, shows=r'(?s)"state": "lost".*(' + why + ').*"state": "live", "reason"')


def _names_and_limits() -> Iterator[Case]:
    for name in ("a:b.mp4", "-x.avi"):
        yield Case(name, RUN + "{}", shows="30 frames classified")
    yield Case("shot[1].png", RUN + "'{}'", shows="1 frames? classified")
    yield Case(
        "file:///FOLDER/FILE", RUN + "{}", words={"/FOLDER/FILE": "$PWD/video.mp4"}, shows="30 frames classified"
    )
    yield Case("--threads", TEST + "{} 1", ends=TERM, shows=FRAME)
    yield Case("redirects and playlists are refused", RUN + "http://10.0.0.8/moved", ends=1, shows="10.0.0.8/elsewhere")
    yield Case("giving an option twice is an error", TEST + "--source video.mp4", ends=2, shows="more than once")
    yield Case(
        "Frames of more than 50 megapixels are refused",
        RUN + "test:// --width 8000 --height 8000",
        ends=1,
        shows="megapixels",
    )


def _usb() -> Iterator[Case]:
    size = "--width 1280 --height 720 --fps 30"
    for option in ("--width", "--height"):
        yield from endless(option, RUN + "/dev/video0 {} 640", usb=True)
    yield from endless(
        "1280x720 MJPG at 30 granted",
        RUN + "/dev/video0 " + size,
        shows=r"(?s)1280x720 MJPG at 30 granted.* age ",
        usb=True,
    )
    yield from endless(
        "--format MJPG", RUN + "/dev/video0 {} --json", shows=r'(?s)MJPG at [^ ]+ granted.*"label"', usb=True
    )
    exposure = ("--control exposure=100", "--control auto_exposure=1")
    for text, other in (exposure, exposure[::-1]):
        yield from endless(text, RUN + "/dev/video0 {} " + other, usb=True)
    yield Case(
        "For an unknown name, the error lists the camera's controls",
        RUN + "/dev/video0 --control expsure=100",
        ends=1,
        shows="exposure",
        usb=True,
    )
    yield from endless("on", RUN + "/dev/video0 --control white_balance_automatic={}", usb=True)
    yield from endless("off", RUN + "/dev/video0 --control white_balance_automatic={}", usb=True)
    yield from endless(
        "if it differs from the request, a warning shows both",
        RUN + "/dev/video0 --width 800 --height 600",
        shows="(?s)800x600 asked, 640x480 .* granted.* age ",
        usb=True,
    )
    yield from endless("--format", RUN + "/dev/video0 {} YUYV", usb=True)
    yield from endless("--control", RUN + "/dev/video0 {} gain=10", usb=True)


def _videos() -> Iterator[Case]:
    yield Case("--smooth", VIDEO + "{} 1", shows="30 frames classified")
    yield Case("position_s", VIDEO + "--json", shows='"position_s": 1.93')
    yield Case(
        "A file that ends before its header says so is an error", RUN + "cut.mp4", ends=1, shows=r"\d+ of 30|30.*\d+"
    )
    yield Case(
        "more than 2 % of the frames (and more than 2) cannot be decoded",
        RUN + "damaged.avi",
        ends=1,
        shows="5 unreadable",
    )
    yield Case("fewer are a warning", RUN + "scratched.avi", shows="2 unreadable")


def _passwords() -> Iterator[Case]:
    yield from endless(
        "python3 pets.edge run --source rtsp://admin@10.0.0.7/stream1 --password-file /etc/edgeclf/camera", "{}"
    )
    yield from endless(
        "python3 pets.edge run --source 'http://10.0.0.8/video?user=me&pwd={password}' --password-file /etc/edgeclf/camera",
        "{}",
    )
    pipeline = "python3 pets.edge run --source 'gst://rtspsrc location=rtsp://10.0.0.9/x user-id=me user-pw={password} ! decodebin'"
    variable = 'EDGECLF_CAMERA_PASSWORD="$(cat /etc/edgeclf/camera)" '
    yield from endless(pipeline, variable + "{}", needs="gstreamer", refused=(1, "GStreamer"))
    yield from endless(
        "EDGECLF_CAMERA_PASSWORD", '{}="$(cat /etc/edgeclf/camera)" ' + RUN + "rtsp://admin@10.0.0.7/stream1"
    )
    yield from endless(
        "--password-file FILE", RUN + "rtsp://admin@10.0.0.7/stream1 {}", words={"FILE": "/etc/edgeclf/camera"}
    )
    broker = "--sink mqtt://admin@broker:1884/pets "
    paho: dict[str, Any] = {"needs": "paho", "refused": (1, "paho-mqtt")}
    yield Case(
        "EDGECLF_MQTT_PASSWORD",
        '{}="$(cat /etc/edgeclf/camera)" ' + VIDEO + broker,
        shows="30 frames classified, 0 dropped, 0 unreadable$",
        **paho,
    )
    yield Case("--mqtt-password-file", VIDEO + broker + "{} /etc/edgeclf/camera", shows="0 unreadable$", **paho)
    yield Case(
        "mqtt://USER@HOST/TOPIC",
        VIDEO + "--sink {} " + BROKER_FILE,
        words={"USER@HOST": "admin@broker:1884"},
        shows="0 unreadable$",
        **paho,
    )


def _refusals() -> Iterator[Case]:
    typed = "rtsp://admin:s3cret%2Fwith%23odd%40signs%25%20%22%27%21@10.0.0.7/stream1"
    yield from endless(
        "A password in an address still works, percent-encoded",
        RUN + typed,
        shows=r"(?s)process list.*--password-file.* age [0-9]",
    )
    yield Case(
        "wrong password (401)",
        "EDGECLF_CAMERA_PASSWORD=wrong " + RUN + "rtsp://admin@10.0.0.7/stream1",
        ends=1,
        shows="401|password",
    )
    yield Case("wrong path (404)", RUN + "rtsp://admin@10.0.0.7/else " + CAMERA_FILE, ends=1, shows="404|path")
    yield Case("a closed port", RUN + "rtsp://10.0.0.7:555/x", ends=1, shows="refused")
    yield Case("an unknown host name", RUN + "rtsp://nowhere.example/x", ends=1, shows="nowhere.example")
    yield Case("an unreachable host", RUN + "rtsp://10.9.9.9/x", ends=1, shows="10.9.9.9")
    variable = 'EDGECLF_CAMERA_PASSWORD="$(cat /etc/edgeclf/camera)" '
    yield Case(
        "gst-launch-1.0",
        variable + RUN + "'gst://rtspsrc location=rtsp://10.0.0.9/wrong user-id=me user-pw={password} ! decodebin'",
        ends=1,
        shows=r"gst-launch-1.0.*\$EDGECLF_CAMERA_PASSWORD",
        needs="gstreamer",
        refused=(1, "GStreamer"),
    )
    for name in ("OPENCV_LOG_LEVEL", "GST_DEBUG"):
        yield Case(name, f"{{}}={'DEBUG' if 'CV' in name else 2} " + VIDEO, shows="30 frames classified")
    yield Case(
        "SSL_CERT_FILE",
        "{}=/etc/edgeclf/ca.pem " + RUN + "https://10.0.0.8/picture.jpg",
        ends=1,
        shows="refused|certificate",
        not_here="the camera here has no https",
    )


def _losses() -> Iterator[Case]:
    gone = RUN + "rtsp://10.0.0.7:555/x "
    yield Case("--timeout", RUN + "'test://?fault=hang&after=10' --json {} 1", ends=TERM, shows="no frame.*1")
    for option in ("--frozen", "--frozen 0"):
        yield from endless(option, RUN + "test:// {}" + ("" if " " in option else " 5"))
    yield Case("--wait", gone + "{} --json", ends=TERM, shows='"state": "lost".*refused')
    yield Case("--no-wait", gone + "{}", ends=1, shows="refused")
    yield Case("What waiting cannot fix", RUN + "missing.mp4 --wait", ends=1, shows="missing.mp4")


_GROUPS = (
    *(_commands, _sources, _pipelines, _files, _generated, _names_and_limits, _usb, _videos),
    *(_passwords, _refusals, _losses),
)
