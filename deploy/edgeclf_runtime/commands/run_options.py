"""Options of ``run``, and those that other commands share with it."""

from .values import control, device_name, positive, region, seconds, seconds_or_zero, share


def add_run(parser):
    """Add the options of ``run``."""
    source = parser.add_argument_group("source")
    source.add_argument(
        "--source",
        required=True,
        metavar="URI",
        help="csi://0, /dev/video0, /dev/v4l/by-id/..., rtsp://..., http://... (MJPEG, an image, a film), gst://PIPELINE, test://, a video file, a folder or pattern of images",
    )
    source.add_argument(
        "--password-file",
        metavar="FILE",
        help="the camera's password, a file of one line; else the environment's EDGECLF_CAMERA_PASSWORD; for rtsp://USER@HOST, "
        "and wherever {password} stands",
    )
    _add_mode(source)
    _add_pace(source)
    _add_wait(source)
    add_device_name(source)
    add_choice(parser)
    add_decision(parser)
    _add_smoothing(parser)
    _add_sinks(parser)


def _add_mode(source):
    source.add_argument("--width", type=positive, metavar="N", help="picture width to ask the camera for")
    source.add_argument("--height", type=positive, metavar="N", help="picture height to ask the camera for")
    source.add_argument(
        "--fps",
        type=positive,
        metavar="N",
        help="frames a second to ask the camera for, or at which images were taken",
    )
    source.add_argument(
        "--format", metavar="NAME", help="a USB camera's format, MJPG or YUYV; else MJPG if size or rate needs it"
    )
    source.add_argument(
        "--control",
        action="append",
        type=control,
        metavar="NAME=VALUE",
        help="set a USB camera's control, say exposure=100, at each opening; may be given again (default: as the camera has it)",
    )
    source.add_argument("--flip", choices=("horizontal", "vertical", "180"), help="for a camera that hangs upside down")


def _add_pace(source):
    source.add_argument(
        "--policy",
        choices=("auto", "latest", "all"),
        default="auto",
        help="latest: play a video file at its own rate and drop late frames, as a camera; all: every frame of a file",
    )
    source.add_argument(
        "--timeout", type=seconds, default=3.0, metavar="S", help="reopen a camera without a frame for so long (3)"
    )
    source.add_argument(
        "--frozen",
        type=seconds_or_zero,
        metavar="S",
        help="reopen a camera with the same picture for so long (10; images by HTTP: 0); 0 never",
    )
    source.add_argument("--frames", type=positive, metavar="N", help="stop after N frames")


def _add_wait(source):
    source.add_argument(
        "--wait",
        action="store_true",
        default=None,
        help="wait for a camera, a broker or a disk that is not there yet, as for one that is lost (default for a service of systemd)",
    )
    source.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        default=None,
        help="end at once without them (default elsewhere)",
    )


def _add_smoothing(parser):
    parser.add_argument(
        "--smooth",
        type=seconds,
        metavar="S",
        help="average confidences over about S seconds of the camera's or the film's time, so that labels do not flicker",
    )
    parser.add_argument(
        "--margin",
        type=share,
        default=0.1,
        metavar="P",
        help="with --smooth: how far another label must be ahead (0.1)",
    )


def _add_sinks(parser):
    sinks = parser.add_argument_group("where results go, besides stdout")
    sinks.add_argument(
        "--sink",
        action="append",
        default=[],
        metavar="TARGET",
        help="results.jsonl, results.csv, annotated.webm (or .mp4, .avi) or mqtt://HOST/TOPIC (mqtts:// for TLS); "
        "may be given again",
    )
    sinks.add_argument(
        "--mqtt-password-file",
        metavar="FILE",
        help="the password for mqtt://USER@HOST, a file of one line; else the environment's EDGECLF_MQTT_PASSWORD",
    )
    for option, what in (
        ("ca", "certificates of the authorities that may have signed the broker's, instead of the system's"),
        ("cert", "this program's own certificate, for a broker that asks for one"),
        ("key", "the private key of --mqtt-cert"),
    ):
        sinks.add_argument("--mqtt-" + option, metavar="FILE", help="for mqtts://: {}, in PEM".format(what))
    sinks.add_argument(
        "--live",
        metavar="[HOST:]PORT",
        help="show picture and label on a web page, to this machine alone unless HOST is given (0.0.0.0: to every network)",
    )
    _add_live(sinks)
    sinks.add_argument("--uncertain", metavar="FOLDER", help="keep frames of low confidence for labelling")
    sinks.add_argument("--uncertain-below", type=share, default=0.6, metavar="P", help="which confidence is low (0.6)")
    sinks.add_argument(
        "--uncertain-megabytes", type=positive, default=500, metavar="N", help="how much to keep, newest last (500)"
    )
    sinks.add_argument("--quiet", action="store_true", help="write no results to stdout")


def _add_live(parser):
    parser.add_argument(
        "--live-token-file",
        metavar="FILE",
        help="token for --live, in one line; else EDGECLF_LIVE_TOKEN, else one is made where a network reaches the page",
    )
    parser.add_argument("--live-open", action="store_true", help="with --live: let the network in without a token")
    parser.add_argument(
        "--live-name",
        action="append",
        default=[],
        metavar="NAME",
        help="with --live: another host name of this page, say a proxy's; may be given again",
    )
    parser.add_argument(
        "--live-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="with --live: believe what this proxy says of its clients (X-Forwarded-For, -Proto); may be given again",
    )
    parser.add_argument("--live-cert", metavar="FILE", help="with --live: certificate for https, in PEM")
    parser.add_argument("--live-key", metavar="FILE", help="with --live: the certificate's private key, in PEM")


def add_choice(parser):
    """Add the options of which model runs on what."""
    parser.add_argument(
        "--model", metavar="NAME", help="use this model (info lists them); else the first that runs here"
    )
    add_backend(parser)


def add_backend(parser):
    """Add the options of the backend and its threads."""
    parser.add_argument("--backend", default="auto", metavar="NAME", help="use this backend; auto tries all")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of the backend")


def add_decision(parser):
    """Add the options of the label and of what it is made."""
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="labels to list (5)")
    parser.add_argument("--threshold", type=share, metavar="P", help='confidence below which the label is "unknown"')
    parser.add_argument("--allow", action="append", metavar="LABEL", help="answer with this label; may be given again")
    parser.add_argument("--deny", action="append", metavar="LABEL", help="never answer with it; may be given again")
    parser.add_argument(
        "--roi",
        type=region,
        metavar="X,Y,W,H",
        help="classify this part: pixels, or shares of the picture (0.25,0,0.5,1.0)",
    )
    parser.add_argument(
        "--rotation", type=int, choices=(0, 90, 180, 270), default=0, help="turn the picture clockwise, before --roi"
    )
    parser.add_argument(
        "--tune", action="store_true", help="measure what runs here, use the fastest, and remember it for the next time"
    )


def add_device_name(parser):
    """Add the options of the name of this device."""
    parser.add_argument(
        "--device-name",
        type=device_name,
        metavar="NAME",
        help="name in each result of what made it; else the environment's EDGECLF_DEVICE_NAME",
    )
