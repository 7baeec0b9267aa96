"""Configures a paho-mqtt client (1.x or 2.x) for one address: user, TLS, and hints for failed connections."""

import ssl
import sys
import uuid
from typing import TYPE_CHECKING, Any, Dict, NamedTuple, Optional, Sequence

from ...device.remedies import install
from ...errors import DependencyError, OptionError
from ..certificates import client_context, is_unverified, load_pair

if TYPE_CHECKING:
    import paho.mqtt.client as mqtt

    from .address import Parts

CA, CERT, KEY = "--mqtt-ca", "--mqtt-cert", "--mqtt-key"
RECEIVE_FAILED = "failed to receive on socket: "  # the beginning of paho's log line


class Tls(NamedTuple):
    """Files for a broker that the system's certificates do not cover, or that asks for a certificate; all in PEM.

    ca              certificates of the authorities that may sign the broker's, instead of the system's
    certificate     this client's own, followed by its intermediate certificates
    key             its private key
    """

    ca: Optional[str] = None
    certificate: Optional[str] = None
    key: Optional[str] = None


def new_client(parts: "Parts", tls: Optional[Sequence[Optional[str]]] = None) -> "mqtt.Client":
    """Return a paho client for the result of parse_address().

    Raises DependencyError if paho-mqtt is not installed, and OptionError if ``tls`` is wrong.
    """
    context = tls_context(parts, Tls(*tls or ()))
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise DependencyError(
            "MQTT needs paho-mqtt, which is not installed for {} ({}); install it: {}".format(
                sys.executable, error, install("paho-mqtt")
            )
        )

    class Client(mqtt.Client):
        def loop_forever(self, *arguments: Any, **options: Any) -> Any:
            while True:
                try:
                    return super().loop_forever(*arguments, **options)
                except OSError as error:  # 1.x: a broker's TLS alert would end paho's thread
                    connection = self.socket()
                    if connection is None:
                        raise
                    connection.close()
                    client: Any = self  # the callbacks of 1.x and 2.x differ
                    client.on_log(client, None, mqtt.MQTT_LOG_ERR, RECEIVE_FAILED + str(error))
                    client.on_disconnect(client, None, mqtt.MQTT_ERR_CONN_LOST)

        def reconnect(self) -> "mqtt.MQTTErrorCode":
            try:
                return super().reconnect()
            except ValueError as error:  # Python 3.6, for another host's certificate: it would end paho's thread
                raise OSError(str(error))

    # Each program has its own id: a broker disconnects an older client with the same one.
    options: Dict[str, Any] = {"client_id": "edgeclf-" + uuid.uuid4().hex[:12]}
    if hasattr(mqtt, "CallbackAPIVersion"):  # 2.x
        options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
    client = Client(**options)
    # No limit in paho: one file of the spool is sent at a time.
    client.max_inflight_messages_set(0)
    if parts["user"]:
        client.username_pw_set(parts["user"], parts["password"])
    if context is not None:
        client.tls_set_context(context)
    return client


def tls_context(parts: "Parts", tls: Tls) -> Optional[ssl.SSLContext]:
    """Return an ssl.SSLContext that verifies the broker's certificate and host name, or None for mqtt://.

    Raises OptionError if ``tls`` is wrong.
    """
    if parts["scheme"] != "mqtts":
        if any(tls):
            raise OptionError(
                "{}, {} and {} are for encrypted connections: use mqtts://{}:{}/{}, or leave them out".format(
                    CA, CERT, KEY, parts["host"], 8883 if parts["port"] == 1883 else parts["port"], parts["topic"]
                )
            )
        return None
    if (tls.certificate is None) != (tls.key is None):
        raise OptionError("a client certificate needs both {} and {}, in PEM".format(CERT, KEY))
    context = client_context(CA, tls.ca)
    if tls.certificate is not None and tls.key is not None:
        load_pair(context, (CERT, KEY), tls.certificate, tls.key)
    return context


def hint(parts: "Parts", tls: Optional[Sequence[Optional[str]]], error: Optional[BaseException] = None) -> str:
    """Return what to check if a broker closes the connection, or if the TLS handshake failed with ``error``; or ""."""
    tls = Tls(*tls or ())
    if parts["scheme"] == "mqtt":
        return "" if error else "does it expect TLS (mqtts://)?"
    if is_unverified(error):
        return "" if tls.ca else "give its authority's certificate with {}".format(CA)
    if isinstance(error, (ConnectionResetError, ssl.SSLEOFError)) or "WRONG_VERSION" in str(error):
        return "does it use TLS? Without TLS, the address is mqtt://"
    if error and not isinstance(error, ssl.SSLError):
        return ""
    if tls.certificate is None:
        return "does it require a client certificate ({} and {})?".format(CERT, KEY)
    return "does it trust the certificate given with {}?".format(CERT)
