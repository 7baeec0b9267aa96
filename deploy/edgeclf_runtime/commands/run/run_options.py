"""Options of ``run``, and those that other commands share with it."""

import argparse

from ..option_types import control, device_name, distance, positive, region, seconds, seconds_or_zero, share
from .cameras import SourceAction
from .event_options import add_actions, add_events

# A parser, or a group of its options.
Options = argparse._ActionsContainer


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="read options from this file, JSON or (from Python 3.11) TOML; those on the command line have priority (default: none)",
    )
    source = parser.add_argument_group("source")
    source.add_argument(
        "--source",
        action=SourceAction,
        required=True,
        metavar="[NAME=]URI",
        help="csi://0, /dev/video0, /dev/v4l/by-id/..., rtsp://..., http://... (MJPEG, an image, a video), gst://PIPELINE, "
        "test://, a video file, or a folder or pattern of images; repeatable, with a NAME for each camera",
    )
    source.add_argument(
        "--for",
        dest="for_camera",
        metavar="NAME",
        help="with several cameras: the options after it are for this one, in place of those before it, such as --roi, "
        "--threshold and --event; repeatable (default: every option is for all cameras)",
    )
    source.add_argument(
        "--password-file",
        metavar="FILE",
        help="file with the camera's password in one line, for rtsp://USER@HOST and in place of {password} "
        "(default: the environment variable EDGECLF_CAMERA_PASSWORD)",
    )
    _add_mode(source)
    _add_pace(source)
    _add_wait(source)
    add_device_name(source)
    add_choice(parser)
    add_decision(parser)
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="a picture, white with black parts: what is black there nobody sees, neither the network nor the live page, snapshots "
        "and videos (default: none)",
    )
    add_tune(parser, first_start=True)
    _add_smoothing(parser)
    _add_health(parser)
    add_events(parser)
    _add_sinks(parser)


def _add_mode(source: Options) -> None:
    source.add_argument(
        "--width", type=positive, metavar="N", help="frame width to request, in pixels (default: the camera's own)"
    )
    source.add_argument(
        "--height", type=positive, metavar="N", help="frame height to request, in pixels (default: the camera's own)"
    )
    source.add_argument(
        "--fps",
        type=positive,
        metavar="N",
        help="frames per second to request from a camera, or at which images were taken (default: the camera's own; images: 15)",
    )
    source.add_argument(
        "--format",
        metavar="NAME",
        help="pixel format of a USB camera, MJPG or YUYV (default: raw frames, MJPG if size or rate requires it)",
    )
    source.add_argument(
        "--control",
        action="append",
        type=control,
        metavar="NAME=VALUE",
        help="set a control of a USB camera whenever it is opened, such as exposure=100; repeatable (default: unchanged)",
    )
    source.add_argument(
        "--flip",
        choices=("horizontal", "vertical", "180"),
        help="flip the picture, for a camera that is mounted upside down (default: no)",
    )
    source.add_argument(
        "--decode",
        choices=("auto", "hardware", "software"),
        default="auto",
        help="decoder of an rtsp:// stream or a video file; auto: for a stream the hardware's if there is one and it works, else "
        "software; for a file software (default: auto)",
    )


def _add_pace(source: Options) -> None:
    source.add_argument(
        "--policy",
        choices=("auto", "latest", "all"),
        default="auto",
        help="latest: play a video file at its own rate and drop late frames, like a camera; all: classify every frame of a "
        "file; auto: latest for cameras and streams, all for files (default: auto)",
    )
    source.add_argument(
        "--timeout",
        type=seconds,
        default=3.0,
        metavar="S",
        help="reopen a camera after S seconds without a frame (default: 3)",
    )
    source.add_argument(
        "--frozen",
        type=seconds_or_zero,
        metavar="S",
        help="reopen a camera after S seconds with the same picture; 0: never (default: 10; images by HTTP: 0)",
    )
    source.add_argument("--frames", type=positive, metavar="N", help="stop after N frames (default: no limit)")


def _add_wait(source: Options) -> None:
    source.add_argument(
        "--wait",
        action="store_true",
        default=None,
        help="wait for a camera, broker or disk that is not available yet (default for a systemd service)",
    )
    source.add_argument(
        "--no-wait",
        action="store_false",
        dest="wait",
        default=None,
        help="end at once if one is not available (default elsewhere)",
    )


def _add_smoothing(parser: Options) -> None:
    parser.add_argument(
        "--smooth",
        type=seconds,
        metavar="S",
        help="average confidences over about S seconds of the camera's or video's time, so that labels do not flicker "
        "(default: off)",
    )
    parser.add_argument(
        "--margin",
        type=share,
        default=0.1,
        metavar="P",
        help="with --smooth: lead in confidence that another label needs, 0 to 1 (default: 0.1)",
    )


def _add_health(parser: Options) -> None:
    parser.add_argument(
        "--no-health",
        action="store_false",
        dest="health",
        help="do not compare the camera's images and results with those of training (default: report what has changed)",
    )
    parser.add_argument(
        "--baseline",
        choices=("training", "learn", "relearn"),
        default="training",
        help="what images are compared with: the training images; learn: this camera's first ten minutes, once; relearn: learn them "
        "again (default: training)",
    )


def _add_sinks(parser: argparse.ArgumentParser) -> None:
    sinks = parser.add_argument_group("outputs besides stdout")
    sinks.add_argument(
        "--sink",
        action="append",
        default=[],
        metavar="TARGET",
        help="results.jsonl, results.csv, annotated.webm (or .mp4, .avi), or mqtt://HOST/TOPIC (mqtts:// for TLS); "
        "repeatable (default: none)",
    )
    sinks.add_argument(
        "--mqtt-password-file",
        metavar="FILE",
        help="file with the password for mqtt://USER@HOST in one line (default: the environment variable "
        "EDGECLF_MQTT_PASSWORD)",
    )
    for option, what in (
        ("ca", "PEM file of the authorities that may sign the broker's certificate (default: the system's)"),
        ("cert", "PEM file with this program's own certificate, for a broker that requires one (default: none)"),
        ("key", "PEM file with the private key of --mqtt-cert"),
    ):
        sinks.add_argument("--mqtt-" + option, metavar="FILE", help="for mqtts://: " + what)
    sinks.add_argument(
        "--live",
        metavar="[HOST:]PORT",
        help="show picture and label on a web page; HOST 0.0.0.0: on every network (default: no page; HOST: this machine only)",
    )
    _add_live(sinks)
    sinks.add_argument(
        "--uncertain", metavar="FOLDER", help="store frames of low confidence here, for labeling (default: none)"
    )
    sinks.add_argument(
        "--uncertain-below",
        type=share,
        default=0.6,
        metavar="P",
        help="confidence below which --uncertain stores a frame, 0 to 1 (default: 0.6)",
    )
    sinks.add_argument(
        "--uncertain-megabytes",
        type=positive,
        default=500,
        metavar="N",
        help="limit of --uncertain in MB; the oldest frames are deleted (default: 500)",
    )
    add_actions(sinks)
    sinks.add_argument("--quiet", action="store_true", help="write no results to stdout")


def _add_live(parser: Options) -> None:
    parser.add_argument(
        "--live-token-file",
        metavar="FILE",
        help="file with the token for --live in one line (default: the environment variable EDGECLF_LIVE_TOKEN; without it, "
        "a new token for a page that a network can reach)",
    )
    parser.add_argument("--live-open", action="store_true", help="with --live: let the network in without a token")
    parser.add_argument(
        "--live-name",
        action="append",
        default=[],
        metavar="NAME",
        help="with --live: another host name of this page, such as a proxy's; repeatable (default: none)",
    )
    parser.add_argument(
        "--live-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="with --live: address of a proxy whose X-Forwarded-For and X-Forwarded-Proto headers are trusted; repeatable "
        "(default: none)",
    )
    parser.add_argument(
        "--live-cert", metavar="FILE", help="with --live: PEM file with the certificate for https (default: http)"
    )
    parser.add_argument(
        "--live-classify",
        action="store_true",
        help="with --live: classify pictures that are posted to /v1/classify, too (default: refuse them)",
    )
    parser.add_argument("--live-key", metavar="FILE", help="with --live: PEM file with the certificate's private key")


def add_choice(parser: Options) -> None:
    """Add the options that choose model and backend."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="use this model of the bundle; info lists them (default: the fastest that was measured here, or else the first that "
        "runs here)",
    )
    add_backend(parser)


def add_backend(parser: Options) -> None:
    """Add the options of the backend and its threads."""
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="use this backend: tensorrt, tensorrt-rtx, onnxruntime, openvino or opencv; auto: try all (default: auto)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="number of threads of the backend (default: the fastest that was measured here, or its own choice)",
    )


def add_decision(parser: Options) -> None:
    """Add the options of the label and of the picture's part that it is for."""
    parser.add_argument("--top-k", type=positive, default=5, metavar="K", help="number of labels to list (default: 5)")
    parser.add_argument(
        "--threshold",
        type=share,
        metavar="P",
        help='confidence below which the label is "unknown", 0 to 1 (default: the bundle\'s)',
    )
    parser.add_argument(
        "--most-distance",
        type=distance,
        metavar="D",
        help='distance from the training images above which the label is "unknown" (default: the bundle\'s)',
    )
    parser.add_argument(
        "--allow",
        action="append",
        metavar="LABEL",
        help="return only labels given with this option; repeatable (default: all labels)",
    )
    parser.add_argument(
        "--deny", action="append", metavar="LABEL", help="never return this label; repeatable (default: none)"
    )
    parser.add_argument(
        "--roi",
        type=region,
        metavar="X,Y,W,H",
        help="classify only this part: in pixels, or as fractions of the picture, such as 0.25,0,0.5,1.0 "
        "(default: the whole picture)",
    )
    parser.add_argument(
        "--rotation",
        type=int,
        choices=(0, 90, 180, 270),
        default=0,
        help="degrees to rotate the picture clockwise, before --roi (default: 0)",
    )


def add_tune(parser: Options, first_start: bool) -> None:
    """Add the option that measures models and backends.

    first_start     whether the command does so by itself if nothing is remembered
    """
    parser.add_argument(
        "--tune",
        action="store_true",
        default=None if first_start else False,
        help="measure the models, backends and threads that run here, use the fastest, and remember it for later runs "
        "(default: {})".format("only if nothing is remembered" if first_start else "use what is remembered"),
    )
    if first_start:
        add_no_tune(parser)


def add_no_tune(parser: Options) -> None:
    """Add the option that measures nothing."""
    parser.add_argument(
        "--no-tune",
        action="store_false",
        dest="tune",
        default=None,
        help="measure nothing at the first start; the manifest's order is used if nothing is remembered",
    )


def add_device_name(parser: Options) -> None:
    """Add the option of this device's name."""
    parser.add_argument(
        "--device-name",
        type=device_name,
        metavar="NAME",
        help="name of this device in each result (default: the environment variable EDGECLF_DEVICE_NAME)",
    )
