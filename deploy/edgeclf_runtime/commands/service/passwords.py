"""Refuses passwords in the options of a service, and those that a service does not inherit."""

from typing import TYPE_CHECKING

from ...device.process_secrets import CAMERA, LIVE, MQTT, WEBHOOK, secret_bytes
from ...errors import EdgeclfError, OptionError
from ...text.redaction import learn

if TYPE_CHECKING:
    from argparse import Namespace


def refuse_passwords(arguments: "Namespace") -> None:
    """Raise EdgeclfError for a password that every user could read in the unit file, or that the service would not get."""
    for what, texts, option in (
        ("the source", arguments.sources, "--password-file"),
        ("a sink", arguments.sink, "--mqtt-password-file"),
    ):
        if any(learn(text) != text for text in texts):
            raise OptionError(
                "the address of {} contains a password, which does not belong in a unit file, because every user can "
                "read it, nor in a configuration file: leave it out, and use {} FILE, which systemd passes to the "
                "service with LoadCredential=".format(what, option)
            )
    mqtt = any(target.lower().startswith("mqtt") for target in arguments.sink)
    for needed, variable, dest in (
        (True, CAMERA, "password_file"),
        (mqtt, MQTT, "mqtt_password_file"),
        (arguments.live, LIVE, "live_token_file"),
        (arguments.webhook, WEBHOOK, "webhook_secret_file"),
    ):
        if needed and secret_bytes(variable) and not getattr(arguments, dest):
            raise EdgeclfError(
                "{} is set here, but a service does not inherit it: write it to a file that only root can read, "
                "and pass --{} FILE".format(variable, dest.replace("_", "-"))
            )
