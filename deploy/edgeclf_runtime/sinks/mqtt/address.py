"""Parses MQTT addresses, and finds the folder for results that a broker has not received yet."""

import os
from typing import TYPE_CHECKING, Optional
from urllib.parse import quote

from ...device.credentials import check_password, password_from
from ...device.process_secrets import MQTT
from ...errors import OutputError
from ...files.user_folders import state_folder
from ...text import addresses
from ...text.redaction import learn, protect

if TYPE_CHECKING:
    from typing import TypedDict

    class Parts(TypedDict):
        """The parts of an MQTT address."""

        scheme: str
        host: str
        port: int
        topic: str
        user: Optional[str]
        password: Optional[str]


FORM = "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC"
PORTS = {"mqtt": 1883, "mqtts": 8883}


def parse_address(address: str, password: Optional[str] = None) -> "Parts":
    """Return scheme, host, port, topic, user and password of an MQTT address; raises OutputError if it is not one.

    password    of an address with a user name but no password; None reads the environment
    """
    learn(address)
    try:
        parsed = addresses.parse_address(address)
        topic = parsed.tail[1:].replace("%40", "@")
        reason = _fault(parsed, topic)
    except ValueError as error:
        reason = str(error)
    if reason:
        raise OutputError(
            "{!r} is not an MQTT address: {}; expected {}, or {} with the password in the environment variable {} or "
            "with --mqtt-password-file".format(
                addresses.shown_uri(address), reason, FORM, "mqtt://USER@HOST/TOPIC", MQTT
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


def _password(parsed: addresses.Address, password: Optional[str]) -> Optional[str]:
    found = parsed.plain_password
    if not found and password is not None:
        check_password(password, "the MQTT password")
    found = found or password or password_from(MQTT)
    if found:
        protect(found)
    return found


def _fault(parsed: addresses.Address, topic: str) -> str:
    if parsed.scheme not in PORTS or not parsed.tail.startswith("/") or not topic:
        return "it does not have this form"
    if set(topic) & set("+#\0"):
        return "a topic for publishing must not contain + or #"
    return ""


def default_spool(parts: "Parts") -> str:
    """Return the folder for results that a broker and topic have not received yet."""
    state = state_folder()
    if state is None:
        raise OutputError("no folder is available for undelivered results: set XDG_STATE_HOME to a writable one")
    return os.path.join(state, "mqtt", quote("{host}:{port}/{topic}".format(**parts), safe=""))
