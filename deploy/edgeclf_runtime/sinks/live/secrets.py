"""The live page's secrets: its token, and the certificate and key of its https."""

import re

from ...device.credentials import LIVE as TOKEN_VARIABLE
from ...device.credentials import secret_bytes
from ...errors import OutputError
from ...files.read import read_bytes
from ..pem import load_pair, require_tls12

MAX_TOKEN_BYTES = 512


def read_token(path):
    """Return the token of a file or of the environment as bytes, or None."""
    if path is not None:
        source, advice = "--live-token-file {}".format(path), "write one line of up to {} bytes".format(MAX_TOKEN_BYTES)
        try:
            token = read_bytes(path, MAX_TOKEN_BYTES + 2)
        except OSError as error:
            raise OutputError("{} cannot be read ({}): name a file with the token".format(source, error.strerror))
        except ValueError as error:
            raise OutputError("{} is {}: {}".format(source, error, advice))
        token = token[:-1] if token.endswith(b"\n") else token
        token = token[:-1] if token.endswith(b"\r") else token
    else:
        source, advice = TOKEN_VARIABLE, "set it to one line of up to {} bytes, or unset it".format(MAX_TOKEN_BYTES)
        set_token = secret_bytes(TOKEN_VARIABLE)
        if set_token is None:
            return None
        token = set_token
    # The token itself is never quoted.
    if not token.strip() or token != token.strip() or re.search(rb"[\x00-\x1f\x7f]", token):
        raise OutputError("{} holds no token (empty, blanks around it, or several lines): {}".format(source, advice))
    if len(token) > MAX_TOKEN_BYTES:
        raise OutputError("{} is larger than {} bytes: {}".format(source, MAX_TOKEN_BYTES, advice))
    return token


def open_tls(certificate, key):
    """Return an ssl.SSLContext for TLS 1.2 and later from two PEM files, or None for none; raises OutputError."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise OutputError("https needs both --live-cert and --live-key: give the certificate and its key, in PEM")
    try:
        import ssl
    except ImportError as error:
        raise OutputError("this Python has no TLS ({}): leave --live-cert and --live-key out".format(error))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    require_tls12(context)
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    load_pair(context, ("--live-cert", "--live-key"), certificate, key)
    return context
