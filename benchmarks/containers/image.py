"""An image's steps without Docker: reads a Dockerfile, and carries out its steps in folders.

FROM is a copy of a base folder, COPY copies, and RUN runs in the folder as root, with this machine's network, a copy of its
certificates, and its variables for pip, in mount and process namespaces of its own.  Every other instruction is kept for the start.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of debian's image
# What package clients read, as a builder's own settings of its network.
_PASSED_ON = re.compile(r"(PIP|SSL|REQUESTS|HTTPS?|NO)_|(https?|no)_proxy")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
# Nothing of this machine's own files is mounted: a package's scripts, such as update-ca-certificates, would change them.
_MOUNTS = """
set -e
mount --make-rprivate /
mount -t proc proc "$0/proc"
mount -t tmpfs -o mode=755 tmpfs "$0/dev"
for name in null zero full random urandom; do touch "$0/dev/$name"; mount --bind /dev/$name "$0/dev/$name"; done
ln -s /proc/self/fd "$0/dev/fd"
mount -t tmpfs tmpfs "$0/run"
cat /etc/resolv.conf >"$0/etc/resolv.conf"
if [ -e "$BUILDER_CERTIFICATES" ]; then cp "$BUILDER_CERTIFICATES" "$0/run/certificates"; fi
exec chroot "$0" "$@"
"""


@dataclass
class Image:
    """A root file system, and how it is started."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)

    @property
    def size_mb(self) -> float:
        """The size of all files."""
        found = subprocess.run(["du", "-sk", str(self.root)], capture_output=True, text=True, check=True)
        return int(found.stdout.split()[0]) / 1000


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions and their texts, each on one line."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def build(dockerfile: Path, context: Path, base: Path, work: Path, arguments: dict[str, str]) -> Image:
    """Carry out all steps of a Dockerfile, and return its last stage."""
    stages: dict[str, Image] = {}
    image = Image(base)
    values: dict[str, str] = {}
    for word, text in instructions(dockerfile):
        for name, value in {**values, **image.environment}.items():
            text = text.replace("${" + name + "}", value).replace(f"${name}", value)
        if word == "FROM":
            image = Image(work / f"stage{len(stages)}")
            stages[text.partition(" AS ")[2] or str(len(stages))] = image
            subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(image.root)], check=True)
        elif word == "ARG":
            name, _, default = text.partition("=")
            values[name] = arguments.get(name, default)
        elif word == "RUN":
            _run(image, text)
        elif word == "COPY":
            _copy(image, shlex.split(text), context, stages)
        else:
            _keep(image, word, text)
    return image


def _run(image: Image, text: str) -> None:
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name)}
    kept.update((name, "/run/certificates") for name in _CERTIFICATE_VARIABLES if name in kept)
    variables = {**image.environment, **kept}
    variables["BUILDER_CERTIFICATES"] = os.environ.get("SSL_CERT_FILE", _CERTIFICATES)
    inside = ["sh", "-c", f"cd {shlex.quote(image.folder)} && {text}"]
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _MOUNTS, str(image.root), *inside]
    ended = subprocess.run(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        raise SystemExit(f"RUN {text}\n{ended.stdout[-2000:]}")


def _copy(image: Image, words: list[str], context: Path, stages: dict[str, Image]) -> None:
    origin = context
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).partition("=")[2]].root
    target = image.root / os.path.join(image.folder, words[-1]).lstrip("/")
    into = words[-1].endswith("/")
    for pattern in words[:-1]:
        found = glob.glob(str(origin / pattern.lstrip("/")))
        if not found:
            raise SystemExit(f"COPY: {origin / pattern} is missing")
        for path in found:
            to = target / os.path.basename(path) if into else target
            to.parent.mkdir(parents=True, exist_ok=True)
            if os.path.isdir(path):  # of a folder, Docker copies what is in it
                shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(path, to)


def _keep(image: Image, word: str, text: str) -> None:
    if word == "ENV":
        image.environment.update(pair.split("=", 1) for pair in shlex.split(text))
    elif word == "WORKDIR":
        image.folder = text
        (image.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif word == "USER":
        image.user = text
    elif word in ("ENTRYPOINT", "CMD", "VOLUME"):
        setattr(image, {"ENTRYPOINT": "entrypoint", "CMD": "command", "VOLUME": "volumes"}[word], json.loads(text))
    elif word == "HEALTHCHECK":
        image.health = json.loads(text[text.index("[") :])
    elif word not in ("LABEL", "EXPOSE"):
        raise SystemExit(f"{word} is not known to this script")
