"""Addresses of MQTT topics, and the folder for what one of them has not received."""

import os
from urllib.parse import quote

from ...device.credentials import MQTT, check_password, password_from
from ...errors import OutputError
from ...files.user_folders import state_folder
from ...text import addresses
from ...text.redaction import learn, protect

FORM = "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC"
PORTS = {"mqtt": 1883, "mqtts": 8883}


def parse_address(address, password=None):
    """Return scheme, host, port, topic, user and password of an MQTT address; OutputError where it is none.

    password    of an address with a user and no password; None takes the environment's
    """
    learn(str(address))
    try:
        parsed = addresses.parse_address(str(address))
        topic = parsed.tail[1:].replace("%40", "@")
        reason = _fault(parsed, topic)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise OutputError(
            "{!r} is no MQTT address: {}. Expected was {}, or {} with the password in the environment's {} or by "
            "--mqtt-password-file".format(
                addresses.shown_uri(str(address)), reason, FORM, "mqtt://USER@HOST/TOPIC", MQTT
            )
        )
    return {
        "scheme": parsed.scheme,
        "host": parsed.plain_host,
        "port": parsed.port or PORTS[parsed.scheme],
        "topic": topic,
        "user": parsed.plain_user or None,
        "password": _password(parsed, password),
    }


def _password(parsed, password):
    found = parsed.plain_password
    if not found and password is not None:
        check_password(password, "the MQTT password")
    found = found or password or password_from(MQTT)
    if found:
        protect(found)
    return found


def _fault(parsed, topic):
    if parsed.scheme not in PORTS or not parsed.tail.startswith("/") or not topic:
        return "it does not have this form"
    if set(topic) & set("+#\0"):
        return "a topic to publish to has no + and no #"
    return ""


def default_spool(parts):
    """Return the folder for what one broker and topic have not received yet."""
    state = state_folder()
    if state is None:
        raise OutputError("there is no folder for results that the broker has not received; name one by XDG_STATE_HOME")
    return os.path.join(state, "mqtt", quote("{host}:{port}/{topic}".format(**parts), safe=""))
