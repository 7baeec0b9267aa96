"""Remembers which of a bundle's files were verified and have not changed since.

Each bundle that is opened has all its files hashed, 48 MB of the tests' own bundle.  Hundreds of tests open that one, and
Python 3.6 hashes with an older OpenSSL, an emulated processor slower still: it took more than everything else there.
"""

import contextlib
import os
import time

from edgeclf_runtime.bundle import open_bundle

# The kernel's clock for files is a few milliseconds coarse: a file that was just written may change once more unseen.
SETTLED_S = 1.0


@contextlib.contextmanager
def remembering():
    """Verify a file again only if it is another one, was written to, or has other expectations."""
    verify, verified = open_bundle._verify_file, set()

    def verify_file(path, name, expected):
        try:
            status = os.lstat(os.path.join(path, name))
        except OSError:
            verify(path, name, expected)
            return
        # The time of the last change cannot be set by a program, as that of the last modification can.
        key = (name, status.st_dev, status.st_ino, status.st_ctime_ns, expected["size"], expected["sha256"])
        if key in verified:
            return
        verify(path, name, expected)
        if time.time() - status.st_ctime_ns / 1e9 > SETTLED_S:
            verified.add(key)

    open_bundle._verify_file = verify_file
    try:
        yield
    finally:
        open_bundle._verify_file = verify
