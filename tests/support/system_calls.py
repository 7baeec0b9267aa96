"""What a command and all that it starts ask of the kernel, by strace: connections, files and programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_CONNECTIONS = ("connect", "bind", "sendto", "sendmsg")
_OPENING = ("open", "openat", "openat2", "creat")
_CHANGING = (
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "link", "linkat"),
    *("symlink", "symlinkat", "mknod", "mknodat", "truncate", "chmod", "fchmodat"),
)
_STARTING = ("execve", "execveat")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
# A path argument, and before it the folder that it is relative to where the call names one.
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
_INET = re.compile(r'_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
_UNIX = re.compile(r'sa_family=AF_UNIX, sun_path=(@?)"((?:[^"\\]|\\.)*)"')


class Act(NamedTuple):
    """One thing that a process did: kind is "connection", "write", "read" or "program"."""

    kind: str
    what: str


def trace(
    command: Sequence[object], folder: Path, environment: Mapping[str, str], status: tuple[int, ...] = (0,)
) -> set[Act]:
    """Run a command in a folder under strace, and return what it and its children did; what failed is left out."""
    if not shutil.which("strace"):
        import pytest

        pytest.skip("strace is not installed (sudo apt-get install strace)")
    logs = folder / "strace"
    logs.mkdir()
    done = subprocess.run(
        traced(command, logs),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode in status, done.stdout + done.stderr
    return read_acts(logs, folder)


def traced(command: Sequence[object], logs: Path) -> list[str]:
    """Return the command that runs a command under strace, which writes into a folder what each process did."""
    calls = ",".join(f"?{call}" for call in (*_CONNECTIONS, *_OPENING, *_CHANGING, *_STARTING))
    start = ["strace", "-ff", "-qq", "-yy", "-s", "4096", "-e", "signal=none", "-e", f"trace={calls}"]
    return [*start, "-o", str(logs / "process"), *map(str, command)]


def read_acts(logs: Path, folder: Path) -> set[Act]:
    """Return what processes did, by strace's files; ``folder`` was their working directory."""
    return {act for log in logs.iterdir() for line in log.read_text().splitlines() for act in _acts(line, folder)}


def _acts(line: str, folder: Path) -> Iterator[Act]:
    found = _CALL.match(line)
    if not found:
        return
    call, arguments, result, rest = found.groups()
    if call in _CONNECTIONS:
        yield from _connection(call, arguments)
    elif result.startswith("-"):
        return
    elif call in _STARTING:
        yield Act("program", " ".join(map(_decoded, _TEXT.findall(arguments.partition("[")[2]))))
    elif call in _OPENING:
        opened = re.match(r"<(.*?)(?:<(?:char|block) [^>]*>)?>(?:\(deleted\))?$", rest)
        writes = call == "creat" or re.search(r"O_(?:WRONLY|RDWR|CREAT|TRUNC|TMPFILE)", arguments)
        if opened:
            yield Act("write" if writes else "read", _decoded(opened.group(1)))
    else:
        for parent, name in _PATH.findall(arguments):
            yield Act("write", os.path.normpath(os.path.join(str(folder), _decoded(parent), _decoded(name))))


def _connection(call: str, arguments: str) -> Iterator[Act]:
    """Yield "connect tcp 127.0.0.1:80", "bind udp [::]:0", "connect unix /run/it", or nothing where no address is named."""
    inet, unix = _INET.search(arguments), _UNIX.search(arguments)
    protocol = "udp" if re.match(r"\d+<UDP", arguments) else "tcp"
    verb = "connect" if call.startswith("send") else call
    if unix:
        yield Act("connection", f"{verb} unix {unix.group(1)}{_decoded(unix.group(2))}")
    elif inet:
        host = f"[{inet.group(2)}]" if ":" in inet.group(2) else inet.group(2)
        yield Act("connection", f"{verb} {protocol} {host}:{inet.group(1)}")


def _decoded(text: str) -> str:
    return text.encode("latin-1", "replace").decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
