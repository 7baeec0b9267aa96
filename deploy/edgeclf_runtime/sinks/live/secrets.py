"""Reads the live page's secrets: its token, and the certificate and key for https."""

import re
from typing import TYPE_CHECKING, Optional, Union

from ...device.process_secrets import LIVE as TOKEN_VARIABLE
from ...device.process_secrets import secret_bytes
from ...errors import DependencyError, OptionError
from ...files.read import read_bytes
from ..certificates import load_pair, require_tls12

if TYPE_CHECKING:
    import os
    import ssl

    PathLike = Union[str, "os.PathLike[str]"]

MAX_TOKEN_BYTES = 512


def read_token(path: "Optional[PathLike]") -> Optional[bytes]:
    """Return the token from a file or the environment, or None."""
    if path is not None:
        source, advice = "--live-token-file {}".format(path), "write one line of up to {} bytes".format(MAX_TOKEN_BYTES)
        try:
            token: bytes = read_bytes(path, MAX_TOKEN_BYTES + 2)
        except OSError as error:
            raise OptionError("{} cannot be read ({}): give a file with the token".format(source, error.strerror))
        except ValueError as error:
            raise OptionError("{} is {}: {}".format(source, error, advice))
        token = token[:-1] if token.endswith(b"\n") else token
        token = token[:-1] if token.endswith(b"\r") else token
    else:
        source, advice = TOKEN_VARIABLE, "set it to one line of up to {} bytes, or unset it".format(MAX_TOKEN_BYTES)
        found = secret_bytes(TOKEN_VARIABLE)
        if found is None:
            return None
        token = found
    # The token itself is never quoted.
    if not token.strip() or token != token.strip() or re.search(rb"[\x00-\x1f\x7f]", token):
        raise OptionError(
            "{} is not a valid token (empty, blanks around it, or several lines): {}".format(source, advice)
        )
    if len(token) > MAX_TOKEN_BYTES:
        raise OptionError("{} is larger than {} bytes: {}".format(source, MAX_TOKEN_BYTES, advice))
    return token


def open_tls(certificate: "Optional[PathLike]", key: "Optional[PathLike]") -> "Optional[ssl.SSLContext]":
    """Return an ssl.SSLContext for TLS 1.2 and later from two PEM files, or None if neither is given.

    Raises OptionError if they cannot be used, DependencyError if this Python has no TLS.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise OptionError("https needs both --live-cert and --live-key: give a certificate and its key, in PEM")
    try:
        import ssl
    except ImportError as error:
        raise DependencyError("this Python has no TLS ({}): leave out --live-cert and --live-key".format(error))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    require_tls12(context)
    context.options |= getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    load_pair(context, ("--live-cert", "--live-key"), certificate, key)
    return context
