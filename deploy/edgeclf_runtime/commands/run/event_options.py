"""Options of ``run`` for the events of labels."""

import argparse

from ..option_types import event, pause, positive, schedule

# A parser, or a group of its options.
Options = argparse._ActionsContainer


def add_events(parser: argparse.ArgumentParser) -> None:
    """Add the options of events, and of the results beside them."""
    events = parser.add_argument_group("events: a line when a label comes or goes")
    events.add_argument(
        "--event",
        action="append",
        type=event,
        default=[],
        metavar="RULE",
        help="write a line when a label has come and when it has gone, in place of a line for each frame: 'LABEL', or 'LABEL: "
        "hold=0.5, min=0.8, leave=0.6' with the seconds that a change must last (default: 0.5), the confidence at which the "
        "label comes (default: 0.5) and below which it goes (default: three quarters of min); LABEL * is every label; "
        "repeatable (default: no events)",
    )
    events.add_argument(
        "--schedule",
        action="append",
        type=schedule,
        default=[],
        metavar="HOURS",
        help="with --event: labels have events only in these hours, by this machine's local time, such as 'mon-fri 22:00-06:00'; "
        "repeatable (default: always)",
    )
    _add_every(events)
    events.add_argument(
        "--when-motion",
        action="store_true",
        help="classify a frame only if something has moved in the picture, for a second after that, and once a second "
        "(default: every frame)",
    )


def _add_every(events: Options) -> None:
    events.add_argument(
        "--every",
        type=pause,
        metavar="S",
        help="write the result of at most one frame in S seconds to stdout, .jsonl, .csv and MQTT, such as 1s; 0: of every "
        "frame (default: every frame; with --event: none)",
    )


def add_actions(sinks: Options) -> None:
    """Add the options of what happens at an event."""
    sinks.add_argument(
        "--snapshots", metavar="FOLDER", help="with --event: store the best picture of each event here (default: none)"
    )
    sinks.add_argument(
        "--snapshots-megabytes",
        type=positive,
        default=500,
        metavar="N",
        help="limit of --snapshots in MB; the oldest pictures are deleted (default: 500)",
    )
    sinks.add_argument(
        "--clips",
        metavar="FOLDER",
        help="with --event: store a video of each event here, from 5 seconds before it to 3 seconds after it (default: none)",
    )
    sinks.add_argument(
        "--clips-megabytes",
        type=positive,
        default=2000,
        metavar="N",
        help="limit of --clips in MB; the oldest are deleted (default: 2000)",
    )
    sinks.add_argument(
        "--home-assistant",
        nargs="?",
        const="homeassistant",
        metavar="PREFIX",
        help="with --event and --sink mqtt://: tell Home Assistant of the labels, as entities of one device, with the picture of "
        "the latest event; PREFIX: its discovery prefix (default: do not; PREFIX: homeassistant)",
    )
    sinks.add_argument(
        "--webhook",
        metavar="URL",
        help="with --event: post each event as JSON to this address, again and again until it is accepted (default: none)",
    )
    sinks.add_argument(
        "--webhook-secret-file",
        metavar="FILE",
        help="file with the secret that signs what --webhook sends, in one line (default: the environment variable "
        "EDGECLF_WEBHOOK_SECRET; without it, no signature)",
    )
    sinks.add_argument(
        "--webhook-ca",
        metavar="FILE",
        help="for --webhook https://: PEM file of the authorities that may sign its certificate (default: the system's)",
    )
    sinks.add_argument(
        "--on-event",
        metavar="PROGRAM",
        help="with --event: start this program for each event, with the event as JSON on its stdin (default: none)",
    )
    sinks.add_argument(
        "--on-event-arg",
        action="append",
        default=[],
        metavar="TEXT",
        help="argument of the program of --on-event, passed as it is, without a shell; repeatable (default: none)",
    )
