"""Loads certificates, authorities and private keys from PEM files named on the command line, for TLS 1.2 or later."""

import logging
import os
import re
from typing import TYPE_CHECKING, Optional, Tuple, Union

from ..device.credentials import warn_of_readers
from ..errors import OptionError
from ..files.read import read_bytes

if TYPE_CHECKING:
    import ssl

    PathLike = Union[str, "os.PathLike[str]"]

_log = logging.getLogger(__name__)
CERTIFICATE = rb"-----BEGIN CERTIFICATE-----"
PRIVATE_KEY = rb"-----BEGIN (?!ENCRYPTED)([A-Z]+ )?PRIVATE KEY-----"
_MAX_BYTES = 1 << 20
_PARTIAL_CHAIN, _STRICT = 0x80000, 0x20  # OpenSSL's X509_V_FLAG_...; Python has names for them from 3.10 on


def check_pem(option: str, path: "PathLike", begin: bytes, what: str) -> None:
    """Raise OptionError unless ``begin``, a regular expression, matches in the file; ``what`` names what it finds."""
    try:
        data = read_bytes(path, _MAX_BYTES)
    except OSError as error:
        raise OptionError("{} {} cannot be read ({}): give a PEM file".format(option, path, error.strerror))
    except ValueError as error:
        raise OptionError("{} {} is {}: give a PEM file".format(option, path, error))
    if not re.search(begin, data):
        raise OptionError("{} {} contains no {} in PEM: give a file with {}".format(option, path, what[2:], what))


def load_pair(context: "ssl.SSLContext", options: Tuple[str, str], certificate: "PathLike", key: "PathLike") -> None:
    """Load a certificate and its private key into an ssl.SSLContext; warns if others can read the key.

    options     the two command line options that name the files

    Raises OptionError if they cannot be used.
    """
    check_pem(options[0], certificate, CERTIFICATE, "a certificate")
    check_pem(options[1], key, PRIVATE_KEY, "a private key without a password")
    warn_of_readers(_log, os.stat(str(key)).st_mode, "the private key", key)
    try:
        # Without this, OpenSSL would ask for an encrypted key's password on the terminal.
        context.load_cert_chain(str(certificate), str(key), password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = getattr(error, "reason", None) or str(error)
        what = "do not match" if reason == "KEY_VALUES_MISMATCH" else "cannot be used ({})".format(reason)
        raise OptionError(
            "{} {} and {} {} {}: give a certificate and its private key, in PEM".format(
                options[0], certificate, options[1], key, what
            )
        )


def client_context(option: str, authorities: "Optional[PathLike]" = None) -> "ssl.SSLContext":
    """Return an ssl.SSLContext that verifies a server's certificate and host name.

    option          the command line option that names the file
    authorities     the certificates of those that may sign the server's, in place of the system's

    Raises OptionError if the file cannot be used.
    """
    import ssl

    if authorities is not None:
        check_pem(option, authorities, CERTIFICATE, "a certificate")
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise OptionError(
            "{} {} cannot be used ({}): give a file with certificates in PEM".format(option, authorities, error)
        )
    require_tls12(context)
    if authorities is not None:
        # The user's authorities are trusted, even intermediate ones, and self-made certificates may lack extensions
        # that Python 3.13 requires by default.
        context.verify_flags = ssl.VerifyFlags((int(context.verify_flags) | _PARTIAL_CHAIN) & ~_STRICT)
    return context


def is_unverified(error: Optional[BaseException]) -> bool:
    """Return whether a handshake failed because no trusted authority has signed the server's certificate."""
    return "certificate verify failed" in str(error)


def require_tls12(context: "ssl.SSLContext") -> None:
    """Limit an ssl.SSLContext to TLS 1.2 and later."""
    import ssl

    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:  # Python 3.6
        context.options |= ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
