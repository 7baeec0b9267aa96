"""Builds and starts the images for amd64 without a Docker engine; needs root, and Debian's packages.

    sudo python3 benchmarks/containers/containers.py pets.edge PHOTO

Carries out the steps of device.Dockerfile and serve.Dockerfile, on debootstrap's minimal system in place of debian:12.12-slim,
and starts each as PID 1, as its own user without capabilities, on a read-only root file system, with a /dev/shm of 1 MB, a
camera of 4K, and no way to any network but its own loopback.  Then: seconds until HEALTHCHECK passes, a classification,
SIGTERM while it works and at several times after its start, with exit codes and the time that the end took, what was written,
and the size.
Needs: apt-get install debootstrap util-linux iproute2 curl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from container import Container
from image import Image, build

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "containers"
RELEASE = "bookworm"
DELAYS_S = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
SITE = {
    "source": "test://",
    "width": 3840,
    "height": 2160,
    "fps": 5,
    "wait": True,
    "quiet": True,
    "live": "0.0.0.0:8080",
    "live-token-file": "/run/secrets/live_token",
}
TOKEN = "only-for-this-measurement"


def main() -> None:
    """Build, start, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--base", type=Path, help="folder with debootstrap's system; made if it is missing")
    parser.add_argument("--images", nargs="+", choices=("device", "serve"), default=("device", "serve"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if os.getuid() != 0:
        raise SystemExit("namespaces need root: start it with sudo")
    with tempfile.TemporaryDirectory(prefix="edgeclf-containers-") as name:
        work = Path(name)
        work.chmod(0o755)
        base = given.base or work / "base"
        if not base.exists():
            subprocess.run(
                ["debootstrap", "--variant=minbase", RELEASE, str(base)], check=True, stdout=subprocess.DEVNULL
            )
        for kind in given.images:
            one = measure(kind, given.bundle.resolve(), given.photo.resolve(), base, work)
            print(
                json.dumps(one) if given.json else "\n".join(f"{name:24} {value}" for name, value in one.items()) + "\n"
            )


def measure(kind: str, bundle: Path, photo: Path, base: Path, work: Path) -> dict[str, object]:
    """Return everything about one image."""
    begun = time.monotonic()
    folder = work / kind
    folder.mkdir()
    context = bundle.parent if kind == "device" else ROOT
    image = build(FOLDER / f"{kind}.Dockerfile", context, base, folder, {"BUNDLE": bundle.name})
    built_s = time.monotonic() - begun
    mounts, command = given_to(kind, bundle, folder)
    before = listing(image.root, mounts)
    facts = running(kind, image, folder, mounts, command, photo)
    facts["SIGTERM at the start"] = early_signals(image, folder, mounts, command)
    if kind == "device":
        facts["docker run IMAGE classify"] = one_shot(image, folder, photo)
    changed = listing(image.root, mounts) ^ before
    added = image.size_mb - Image(base).size_mb
    return {
        "image": kind,
        "built": f"{built_s:.0f} s",
        "MB": f"{image.size_mb:.0f}, {added:.0f} above its base",
        **facts,
        "changed in the root": sorted(map(str, changed)),
    }


def given_to(kind: str, bundle: Path, folder: Path) -> tuple[dict[str, Path], list[str] | None]:
    """Return the mounts and the command that a user would give."""
    if kind == "serve":
        return {f"/bundles/{bundle.name}": bundle}, [f"/bundles/{bundle.name}"]
    (folder / "site.json").write_text(json.dumps(SITE))
    (folder / "live_token").write_text(TOKEN)
    os.chown(folder / "live_token", 10001, 10001)
    (folder / "live_token").chmod(0o400)
    return {"/etc/edgeclf/site.json": folder / "site.json", "/run/secrets/live_token": folder / "live_token"}, None


def running(
    kind: str, image: Image, folder: Path, mounts: dict[str, Path], command: list[str] | None, photo: Path
) -> dict[str, object]:
    """Start, wait until it is healthy, classify, and stop."""
    container = Container(image, folder, mounts, command)
    healthy = container.seconds_until_healthy()
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{container.pid}/status").read_text().splitlines() if ":\t" in line
    )
    if kind == "serve":
        answer = container.on_its_network("curl", "-sS", "-F", f"image=@{photo}", "http://127.0.0.1:8000/classify")
    else:
        answer = container.on_its_network(
            *("curl", "-sS", "-H", f"Authorization: Bearer {TOKEN}", "http://127.0.0.1:8080/v1/state")
        )
    result = json.loads(answer.stdout or answer.stderr)
    result = result.get("result", result)
    if container.inside("sh", "-c", "echo x > /opt/x").returncode == 0:
        raise SystemExit("the root file system can be written")
    code, seconds = container.stop()
    return {
        "healthy after": f"{healthy:.1f} s",
        "user, capabilities": f"{status['Uid'].split()[1]}, {status['CapEff']}, no new privileges: {status['NoNewPrivs']}",
        "classified": f"{result['label']} {result['confidence']:.3f} by {result['model']} on {result['backend']}",
        "SIGTERM": f"exit code {code} after {seconds:.2f} s",
        "written": container.written(),
        "log": container.log.read_text().strip().splitlines()[-4:],
    }


def early_signals(image: Image, folder: Path, mounts: dict[str, Path], command: list[str] | None) -> dict[str, str]:
    """Stop it at several times after Python began."""
    found = {}
    for delay in DELAYS_S:
        container = Container(image, folder, mounts, command)
        container.wait_for_its_program()
        time.sleep(delay)
        code, seconds = container.stop()
        found[f"{delay:g} s"] = f"{code} after {seconds:.2f} s"
    return found


def one_shot(image: Image, folder: Path, photo: Path) -> str:
    """Classify a file as the image's command."""
    container = Container(image, folder, {"/photo": photo.parent}, ["classify", f"/photo/{photo.name}"])
    code = container.wait()
    return f"exit code {code}: {container.log.read_text().strip().splitlines()[-1]}"


def listing(root: Path, mounts: dict[str, Path]) -> set[tuple[str, int, int]]:
    """Return path, size and time of change of every file of an image."""
    return {
        (str(path.relative_to(root)), path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in root.rglob("*")
        if not path.is_dir() and "/" + str(path.relative_to(root)) not in mounts
    }


if __name__ == "__main__":
    main()
