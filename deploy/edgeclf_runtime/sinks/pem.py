"""Certificates and private keys in PEM files that a command line names, and TLS 1.2 or later."""

import logging
import os
import re

from ..device.credentials import warn_of_readers
from ..errors import OutputError
from ..files.read import read_bytes

_log = logging.getLogger(__name__)
CERTIFICATE = rb"-----BEGIN CERTIFICATE-----"
PRIVATE_KEY = rb"-----BEGIN (?!ENCRYPTED)([A-Z]+ )?PRIVATE KEY-----"
_MAX_BYTES = 1 << 20


def check_pem(option, path, begin, what):
    """Raise OutputError unless a file holds what ``begin``, a regular expression, finds; ``what`` names that."""
    try:
        data = read_bytes(path, _MAX_BYTES)
    except OSError as error:
        raise OutputError("{} {} cannot be read ({}): name a PEM file".format(option, path, error.strerror))
    except ValueError as error:
        raise OutputError("{} {} is {}: name a PEM file".format(option, path, error))
    if not re.search(begin, data):
        raise OutputError("{} {} holds no {} in PEM: name a file with {}".format(option, path, what[2:], what))


def load_pair(context, options, certificate, key):
    """Have an ssl.SSLContext use a certificate and its private key; warns if others may read the key.

    options     the two command line options that name them

    Raises OutputError for what cannot be used.
    """
    check_pem(options[0], certificate, CERTIFICATE, "a certificate")
    check_pem(options[1], key, PRIVATE_KEY, "a private key without a password")
    warn_of_readers(_log, os.stat(str(key)).st_mode, "the private key", key)
    try:
        # A key with a password would make OpenSSL ask the terminal.
        context.load_cert_chain(str(certificate), str(key), password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        what = "are not a pair" if reason == "KEY_VALUES_MISMATCH" else "cannot be used ({})".format(reason)
        raise OutputError(
            "{} {} and {} {} {}: give a certificate and its own key, in PEM".format(
                options[0], certificate, options[1], key, what
            )
        )


def require_tls12(context):
    """Let an ssl.SSLContext speak TLS 1.2 and later only."""
    import ssl

    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:  # Python 3.6
        context.options |= ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
