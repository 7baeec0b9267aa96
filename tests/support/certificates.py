"""Certificates for tests: an authority, one that it has certified, and what either of them signs; made by openssl."""

import shutil
import subprocess

import pytest

_KINDS = {
    "authority": "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n",
    # As many a recipe makes it: nothing is critical, and there is no key identifier.
    "old authority": "basicConstraints=CA:true\n",
    "server": "subjectAltName=DNS:localhost,DNS:broker\nextendedKeyUsage=serverAuth\n",
    "client": "extendedKeyUsage=clientAuth\n",
}


class Signer:
    """A certificate and its key, ``certificate`` and ``key``, which can sign others; ``chain`` adds those above it but the root."""

    def __init__(self, folder, name, kind="authority", signer=None):
        if not shutil.which("openssl"):
            pytest.skip("openssl is not installed")
        self.folder, self.name, self.signer = folder, name, signer
        self.key, self.certificate, self.chain = (str(folder / (name + end)) for end in (".key", ".pem", ".chain"))
        request, extensions = str(folder / (name + ".csr")), folder / (name + ".ext")
        extensions.write_text(_KINDS[kind])
        _openssl(
            "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=" + name, "-keyout", self.key, "-out", request
        )
        by = ["-CA", signer.certificate, "-CAkey", signer.key, "-CAcreateserial"] if signer else ["-signkey", self.key]
        _openssl(
            "x509", "-req", "-in", request, *by, "-days", "2", "-extfile", str(extensions), "-out", self.certificate
        )
        with open(self.chain, "w") as stream:
            above = self
            while above is self or (above is not None and above.signer is not None):
                with open(above.certificate) as part:
                    stream.write(part.read())
                above = above.signer

    def sign(self, name, kind):
        return Signer(self.folder, name, kind, self)


def _openssl(*arguments):
    subprocess.check_call(["openssl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
