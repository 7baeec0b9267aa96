"""A network namespace that records what a command asks the network for, and the files that it leaves.

``observe`` runs a command where the only way out is one end of a cable that nobody listens at.  A resolver on
every loopback address writes down each name that is looked up, and answers with an address beyond the cable, so that
the connection which follows is seen too; every packet that leaves by the cable is written down.  HOME, TMPDIR and the
working directory are empty folders.  Needs root, and Debian's util-linux and iproute2.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple

ANSWERS = {1: socket.inet_aton("198.51.100.7"), 28: socket.inet_pton(socket.AF_INET6, "2001:db8::7")}
LINGER_S = 10.0
FOLDERS = ("home", "tmp", "cwd")
# What the runtime may leave in a home, by the XDG base directory specification: figures, engines, undelivered results.
OWN = ("home/.cache/edgeclf/", "home/.local/state/edgeclf/")
_CABLE = (
    "link set lo up",
    "link add out type veth peer name far",
    # Without ARP a packet to the router leaves at once.
    "link set out arp off up",
    "link set far up",
    "addr add 192.0.2.2/24 dev out",
    "route add default via 192.0.2.1",
    "-6 addr add 2001:db8:1::2/64 dev out nodad",
    "-6 route add default via 2001:db8:1::1",
)
# The address of a Unix socket has at most 107 bytes, and pytest's folders have long names.
_SHORT_TMPDIR = "/run/tmp"
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6"}
# What the kernel says by itself of IPv6: multicast listeners, and who are the neighbors.
_KERNELS_OWN = {130, 131, 132, 133, 134, 135, 136, 143}
_ALL, _IPV4, _IPV6 = 0x0003, 0x0800, 0x86DD


class Observed(NamedTuple):
    """What a command did.

    names       that were looked up
    packets     that left, as "udp 198.51.100.7:443"
    files       that are left in HOME, TMPDIR and the working directory, as "home/.cache/NAME"
    left        command lines of processes that were still there LINGER_S after the command had ended
    """

    status: int
    out: str
    err: str
    names: List[str]
    packets: List[str]
    files: List[str]
    left: List[str]


@functools.lru_cache(maxsize=None)
def reason_to_skip():
    """Why no namespace can be made here, or an empty text."""
    if os.getuid() != 0:
        return "making a network namespace needs root"
    for program, package in (("unshare", "util-linux"), ("ip", "iproute2")):
        if not shutil.which(program):
            return f"{program} is not installed (sudo apt-get install {package})"
    command = f"ip {_CABLE[0]} && ip {_CABLE[1]} && mount -t tmpfs tmpfs /run"
    made = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", command], stderr=subprocess.PIPE
    )
    return "" if made.returncode == 0 else "no network namespace can be made: " + made.stderr.decode().strip()


def observe(command, folder, environment=None, timeout_s=900):
    """Run a command in a namespace of its own and return what was Observed.

    folder          gets HOME, TMPDIR and the working directory; those that are there already are used again
    environment     more variables; nothing else than PATH, a locale and EDGECLF_NO_TUNE is taken over from this process
    """
    skip = reason_to_skip()
    if skip:
        import pytest

        pytest.skip(skip)
    for name in FOLDERS:
        os.makedirs(os.path.join(str(folder), name), exist_ok=True)
    variables = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "EDGECLF_NO_TUNE") if name in os.environ}
    variables.update({"HOME": os.path.join(str(folder), "home"), "TMPDIR": _SHORT_TMPDIR})
    variables.update(environment or {})
    request = {
        "command": [str(part) for part in command],
        "folder": str(folder),
        "environment": variables,
        "timeout_s": timeout_s,
    }
    inside = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside += [sys.executable, "-I", os.path.abspath(__file__)]
    answer = subprocess.run(inside, input=json.dumps(request).encode(), stdout=subprocess.PIPE, check=True).stdout
    return Observed(files=sorted(_files(str(folder))), **json.loads(answer.decode()))


def assert_quiet(seen, statuses=(0,), allowed=OWN):
    """Check that nothing was asked or sent, no process stayed, and nothing else than ``allowed`` is left in the home."""
    assert (seen.names, seen.packets, seen.left) == ([], [], []), seen.err
    assert [name for name in seen.files if name.startswith(("home/", "tmp/")) and not name.startswith(allowed)] == []
    assert seen.status in statuses, seen.err


def _files(folder):
    for name in FOLDERS:
        for parent, _, files in os.walk(os.path.join(folder, name)):
            for file in files:
                yield os.path.relpath(os.path.join(parent, file), folder)


def main():
    """Read a request from stdin, run its command in this process's namespaces, and print what was seen."""
    request = json.loads(sys.stdin.read())
    for line in _CABLE:
        # A kernel without IPv6 has no way out by it.
        subprocess.run(["ip", *line.split()], check=not line.startswith("-6"))
    _mount(request["folder"])
    with contextlib.ExitStack() as stack:
        resolver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        resolver.bind(("0.0.0.0", 53))
        cable = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL)))
        cable.bind(("far", _ALL))
        cable.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        print(json.dumps(_watch(request, resolver, cable)))


def _mount(folder):
    """Let names be asked of the resolver here, hide the sockets of services that would ask for us, and mount TMPDIR."""
    subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", "/run"])
    os.mkdir(_SHORT_TMPDIR)
    subprocess.check_call(["mount", "--bind", os.path.join(folder, "tmp"), _SHORT_TMPDIR])
    texts = {"/etc/resolv.conf": "nameserver 127.0.0.1\n", "/etc/nsswitch.conf": "passwd: files\nhosts: files dns\n"}
    for path, text in texts.items():
        own = os.path.join(folder, os.path.basename(path))
        with open(own, "w") as stream:
            stream.write(text)
        target = os.path.realpath(path)
        if target.startswith("/run/"):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            open(target, "w").close()
        if os.path.exists(target):
            subprocess.check_call(["mount", "--bind", own, target])


def _watch(request, resolver, cable):
    """Run the command and write down names and packets until it and all that it started have ended."""
    names: List[str] = []
    packets: List[str] = []
    left: List[str] = []
    status = None
    output = {name: os.path.join(request["folder"], name + ".txt") for name in ("out", "err")}
    with open(output["out"], "wb") as out, open(output["err"], "wb") as err:
        process = subprocess.Popen(
            request["command"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=os.path.join(request["folder"], "cwd"),
            env=request["environment"],
        )
    deadline = time.monotonic() + request["timeout_s"]
    while True:
        readable = select.select([resolver, cable], [], [], 0.05)[0]
        if resolver in readable:
            names.append(_answer(resolver))
        if cable in readable:
            packets += filter(None, [_describe(*cable.recvfrom(65536))])
        ended = _reap()
        if process.pid in ended:
            status, deadline = ended[process.pid], time.monotonic() + LINGER_S
        if time.monotonic() > deadline:
            left += _alive()
            for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
                if pid != 1:
                    os.kill(pid, signal.SIGKILL)
        elif not readable and status is not None and not _alive():
            break
    texts = {name: Path(path).read_text(encoding="utf-8", errors="replace") for name, path in output.items()}
    return dict(texts, status=status, names=names, packets=packets, left=left)


def _reap():
    """Return the exit statuses of processes that have ended, by number; orphans are this process's children."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(-1, os.WNOHANG)
        while pid:
            ended[pid] = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            pid, status = os.waitpid(-1, os.WNOHANG)
    return ended


def _alive():
    """Return the command lines of the other processes of this namespace."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as stream:
            if pid != "1":
                found.append(stream.read().replace("\0", " ")[:200])
    return found


def _answer(resolver):
    """Answer a question about a name with an address beyond the cable; returns the name."""
    query, asker = resolver.recvfrom(65536)
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
        at += 1 + query[at]
    question = query[12 : at + 5]
    (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
    data = ANSWERS.get(kind)
    answer = b"" if data is None else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, bool(answer), 0, 0)
    resolver.sendto(head + question + answer, asker)
    return ".".join(labels)


def _describe(data, address):
    """Return a packet's protocol, destination and port, or None for what the kernel says by itself."""
    if address[1] == _IPV4:
        head, protocol, target = (data[0] & 15) * 4, data[9], socket.inet_ntoa(data[16:20])
    elif address[1] == _IPV6:
        head, protocol, target = 40, data[6], f"[{socket.inet_ntop(socket.AF_INET6, data[24:40])}]"
        if protocol == 0:  # hop-by-hop options come first
            head, protocol = 40 + 8 * (data[41] + 1), data[40]
    else:
        return f"protocol 0x{address[1]:04x}"
    name = _PROTOCOLS.get(protocol, str(protocol))
    if name == "icmp6" and data[head] in _KERNELS_OWN:
        return None
    port = ":{}".format(*struct.unpack("!H", data[head + 2 : head + 4])) if name in ("tcp", "udp") else ""
    return f"{name} {target}{port}"


if __name__ == "__main__":
    main()
