"""A real systemd, booted in namespaces of its own on a throw-away copy of the root file system.

What it and its services write goes to memory, and is gone with it.  Needs root, overlayfs and util-linux; a machine
without them skips the test.  Nothing is started but the units that a test installs: no unit of the machine's own, and
above all not systemd-tmpfiles, which empties /tmp.
"""

import os
import shutil
import subprocess
import tempfile
import time

import pytest

BOOT_S = 60
SYSTEMD = "/lib/systemd/systemd"
# Whatever a default dependency would start; the file system is prepared already.
_MASKED = (
    *("systemd-tmpfiles-setup", "systemd-tmpfiles-setup-dev", "systemd-tmpfiles-clean", "systemd-update-utmp"),
    *("systemd-sysctl", "systemd-random-seed", "systemd-modules-load", "systemd-udevd", "systemd-udev-trigger"),
    *("systemd-sysusers", "systemd-timesyncd", "systemd-hwdb-update", "systemd-remount-fs", "systemd-binfmt"),
)
_UNSHARE = ("unshare", "-fpmiuC", "--kill-child", "--mount-proc", "--propagation", "private")
_BOOT = """
set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work merged
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay merged
cd merged
for folder in proc sys dev; do mount --rbind /$folder $folder; done
for folder in run tmp var/tmp srv; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
chmod 1777 tmp var/tmp
chmod 755 run srv
rm -rf etc/systemd/system usr/lib/systemd/system-generators var/log/journal
mkdir -p etc/systemd/system run/systemd/system run/lock old
for unit in {masked}; do ln -s /dev/null etc/systemd/system/$unit.service; done
printf '[Unit]\\nDescription=test\\nDefaultDependencies=no\\n' > etc/systemd/system/test.target
pivot_root . old
cd /
umount -l /old
mount --make-rshared /
exec env -i container=edgeclf PATH="$PATH" {systemd} --system --unit=test.target --show-status=no --log-target=null
"""


class Systemd:
    """A systemd that runs, until it is closed.

    files   folders of this machine that it is to have below its /srv, by the name that they have there
    """

    def __init__(self, **files):
        if os.getuid() != 0 or not os.path.exists(SYSTEMD) or not shutil.which("nsenter"):
            pytest.skip("booting systemd needs root, Debian's systemd and util-linux")
        self._folder = tempfile.mkdtemp()
        script = _BOOT.format(masked=" ".join(_MASKED), systemd=SYSTEMD)
        self._outer = subprocess.Popen(
            [*_UNSHARE, "bash", "-c", script, "-", self._folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._pid = None
        try:
            self._wait_until_booted()
            for name, path in files.items():
                self._copy(str(path), "/srv/" + name)
        except BaseException:
            self.close()
            raise

    def _wait_until_booted(self):
        end = time.monotonic() + BOOT_S
        while time.monotonic() < end:
            if self._outer.poll() is not None:
                pytest.skip("systemd cannot be booted here: namespaces, cgroups or overlayfs are missing")
            self._pid = self._pid or self._child()
            if self._pid and self.call("systemctl", "is-active", "--quiet", "test.target") == 0:
                return
            time.sleep(0.1)
        pytest.skip("systemd did not boot here")

    def _child(self):
        with open(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children", encoding="ascii") as stream:
            return stream.read().split()[:1]

    def _copy(self, source, target):
        # Through a pipe: its own /tmp hides the machine's.
        with subprocess.Popen(["tar", "-c", "-C", source, "."], stdout=subprocess.PIPE) as packing:
            unpack = ["sh", "-c", 'mkdir "$1" && tar -x --no-same-owner -C "$1"', "-", target]
            subprocess.check_call(self._command(unpack), stdin=packing.stdout)
        assert packing.returncode == 0
        self.run("chmod", "-R", "a+rX", target)

    def _command(self, words):
        environment = ["env", "-i", "LANG=C.UTF-8", "HOME=/root", f"PATH={os.defpath}:/usr/sbin:/sbin"]
        return ["nsenter", "-t", *self._pid, "-p", "-m", "-i", "-u", "-C", *environment, *words]

    def call(self, *words):
        """Run a command there; returns its exit code."""
        return subprocess.call(self._command(words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *words):
        """Run a command there, which must succeed; returns what it writes."""
        done = subprocess.run(self._command(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = done.stdout.decode("utf-8")
        assert done.returncode == 0, said
        return said

    def show(self, unit, name):
        """The value of a unit's property."""
        return self.run("systemctl", "show", "--property", name, unit).partition("=")[2].rstrip("\n")

    def close(self):
        """End it with all that it started."""
        self._outer.kill()  # and the kernel its child, and that all others of the namespace
        self._outer.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
