"""paho-mqtt's client, 1.x or 2.x, made for one address: user, TLS, and why a connection failed."""

import ssl
import sys
import uuid
from typing import Any, Dict, NamedTuple, Optional

from ...device.remedies import install
from ...errors import OutputError
from ..pem import CERTIFICATE, check_pem, load_pair, require_tls12

CA, CERT, KEY = "--mqtt-ca", "--mqtt-cert", "--mqtt-key"
RECEIVE_FAILED = "failed to receive on socket: "  # as paho logs it
_PARTIAL_CHAIN, _STRICT = 0x80000, 0x20  # OpenSSL's X509_V_FLAG_...: Python names them from 3.10 on


class Tls(NamedTuple):
    """Files of a broker that is not trusted by the system's certificates, or asks for one; all in PEM.

    ca              certificates of the authorities that may have signed the broker's, instead of the system's
    certificate     this client's own, followed by those of the authorities between
    key             its private key
    """

    ca: Optional[str] = None
    certificate: Optional[str] = None
    key: Optional[str] = None


def new_client(parts, tls=None):
    """Return a paho client for what parse_address() returned; raises OutputError if it cannot be had, or ``tls`` is wrong."""
    context = _context(parts, Tls(*tls or ()))
    try:
        import paho.mqtt.client as mqtt
    except ImportError as error:
        raise OutputError(
            "MQTT needs paho-mqtt, which is not there for {} ({}); install it: {}".format(
                sys.executable, error, install("paho-mqtt")
            )
        )

    base: Any = mqtt.Client

    class Client(base):
        def loop_forever(self, *arguments, **options):
            while True:
                try:
                    return super().loop_forever(*arguments, **options)
                except OSError as error:  # 1.x: the alert by which a broker ends TLS would end paho's thread
                    connection, client = self.socket(), self  # type: Any, Any
                    if connection is None:
                        raise
                    connection.close()
                    client.on_log(client, None, mqtt.MQTT_LOG_ERR, RECEIVE_FAILED + str(error))
                    client.on_disconnect(client, None, mqtt.MQTT_ERR_CONN_LOST)

        def reconnect(self):
            try:
                return super().reconnect()
            except ValueError as error:  # a certificate of another host, in Python 3.6: it would end paho's thread
                raise OSError(str(error))

    # Of its own for every program: a broker ends the connection of another client of the same name.
    options: Dict[str, Any] = {"client_id": "edgeclf-" + uuid.uuid4().hex[:12]}
    if hasattr(mqtt, "CallbackAPIVersion"):  # 2.x
        options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
    client = Client(**options)
    # No limit of its own: what is sent at a time is one file of the spool.
    client.max_inflight_messages_set(0)
    if parts["user"]:
        client.username_pw_set(parts["user"], parts["password"])
    if context is not None:
        client.tls_set_context(context)
    return client


def _context(parts, tls):
    """Return an ssl.SSLContext that verifies the broker's certificate and host name, or None for mqtt://."""
    if parts["scheme"] != "mqtts":
        if any(tls):
            raise OutputError(
                "{}, {} and {} are for an encrypted connection: write mqtts://{}:{}/{}, or leave them out".format(
                    CA, CERT, KEY, parts["host"], 8883 if parts["port"] == 1883 else parts["port"], parts["topic"]
                )
            )
        return None
    if (tls.certificate is None) != (tls.key is None):
        raise OutputError("a client's certificate needs both {} and {}, in PEM".format(CERT, KEY))
    if tls.ca is not None:
        check_pem(CA, tls.ca, CERTIFICATE, "a certificate")
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise OutputError("{} {} cannot be used ({}): name a file with certificates in PEM".format(CA, tls.ca, error))
    require_tls12(context)
    if tls.ca is not None:
        # Whom the user names is trusted, an authority between too; many a workshop's own certificates lack what
        # Python 3.13 asks for.
        context.verify_flags = ssl.VerifyFlags((int(context.verify_flags) | _PARTIAL_CHAIN) & ~_STRICT)
    if tls.certificate is not None:
        load_pair(context, (CERT, KEY), tls.certificate, tls.key)
    return context


def hint(parts, tls, error=None):
    """Return what to look at if a broker closes the connection, or shaking hands for TLS failed by ``error``; or ""."""
    tls = Tls(*tls or ())
    if parts["scheme"] == "mqtt":
        return "" if error else "does it expect TLS, mqtts://?"
    if error and "certificate verify failed" in str(error):
        return "" if tls.ca else "its authority's certificate is named by {}".format(CA)
    if isinstance(error, (ConnectionResetError, ssl.SSLEOFError)) or "WRONG_VERSION" in str(error):
        return "does it speak TLS? Without it the address is mqtt://"
    if error and not isinstance(error, ssl.SSLError):
        return ""
    if tls.certificate is None:
        return "does it ask for a certificate, {} and {}?".format(CERT, KEY)
    return "does it trust the certificate of {}?".format(CERT)
