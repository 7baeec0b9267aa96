"""A container without Docker: an image's command as PID 1, as its user without capabilities, on a read-only file system.

It has mount, process, network, IPC and host name namespaces of its own, a /dev with five devices, a /dev/shm of a given size,
a tmpfs for /tmp, and folders for its volumes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from image import Image

START_S = 10
_START = """
set -e
root=$1 shm=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind -o ro /sys "$root/sys"
mount -t tmpfs -o mode=755,size=64k tmpfs "$root/dev"
for name in null zero full random urandom; do touch "$root/dev/$name"; mount --bind /dev/$name "$root/dev/$name"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777,size="$shm" tmpfs "$root/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=1777,size=256m tmpfs "$root/tmp"
while [ "$1" != -- ]; do
  if [ "$1" = ro ]; then mount --bind "$2" "$root$3"; mount -o remount,bind,ro "$root$3"; else mount --bind "$2" "$root$3"; fi
  shift 3
done
shift
mount -o remount,ro "$root/dev"
ip link set lo up
exec chroot "$root" "$@"
"""


class Container:
    """A started image.

    mounts      host path by path in the container; those are read-only
    command     in place of the image's
    """

    def __init__(
        self, image: Image, work: Path, mounts: dict[str, Path], command: list[str] | None = None, shm: str = "1m"
    ):
        self._image = image
        uid, gid = image.user.split(":")
        self._as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--groups=44", "--no-new-privs"]
        self._as_user += ["--bounding-set=-all", "--inh-caps=-all", "--", "env", "-i", f"--chdir={image.folder}"]
        self._as_user += [f"{name}={value}" for name, value in image.environment.items()]
        options = []
        self.volumes = {path: work / path.strip("/").replace("/", "-") for path in image.volumes}
        for path, folder in self.volumes.items():
            # As Docker does with a new volume: with the image's owner.
            found = os.stat(image.root / path.lstrip("/"))
            folder.mkdir(exist_ok=True)
            os.chown(folder, found.st_uid, found.st_gid)
            options += ["rw", str(folder), path]
        for path, source in mounts.items():
            target = image.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir(exist_ok=True) if source.is_dir() else target.touch()
            options += ["ro", str(source), path]
        inside = [*self._as_user, *image.entrypoint, *(image.command if command is None else command)]
        start = ["sh", "-c", _START, "sh", str(image.root), shm, *options, "--", *inside]
        spaces = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"]
        self.log = work / "log.txt"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([*spaces, *start], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """The number of the container's first process on this machine."""
        path = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        while not (found := Path(path).read_text().split()):
            if self._process.poll() is not None or time.monotonic() - self.started > START_S:
                raise SystemExit(f"it has ended by itself, {self._process.poll()}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.005)
        return int(found[0])

    def wait_for_its_program(self) -> None:
        """Wait until the image's own first process has replaced the programs that prepare its start."""
        while os.path.basename(os.readlink(f"/proc/{self.pid}/exe")) not in ("tini", "python3.11"):
            if time.monotonic() - self.started > START_S:
                raise SystemExit(f"it does not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.001)

    def inside(self, *command: str, user: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `docker exec`."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root"]
        return subprocess.run(
            [*enter, *(self._as_user if user else []), *command], capture_output=True, text=True, timeout=60
        )

    def on_its_network(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine on the container's network, as a published port would."""
        enter = ["nsenter", f"--target={self.pid}", "--net"]
        return subprocess.run([*enter, *command], capture_output=True, text=True, timeout=60)

    def seconds_until_healthy(self, limit_s: float = 120) -> float:
        """Ask the image's own check until it passes."""
        while self.inside(*self._image.health).returncode:
            if self._process.poll() is not None or time.monotonic() - self.started > limit_s:
                raise SystemExit(f"never healthy:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)
        return time.monotonic() - self.started

    def stop(self, limit_s: float = 10) -> tuple[int | None, float]:
        """Send SIGTERM to the first process; return its exit code (None: it had to be killed) and the seconds until its end."""
        begun = time.monotonic()
        os.kill(self.pid, signal.SIGTERM)
        try:
            code: int | None = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
            self._process.kill()
            self._process.wait()
        return code, time.monotonic() - begun

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        return self._process.wait(120)

    def written(self) -> dict[str, list[str]]:
        """The files in each volume."""
        return {
            path: sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
            for path, folder in self.volumes.items()
        }
