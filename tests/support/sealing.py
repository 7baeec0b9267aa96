"""Changes to a bundle's copy: damage, and a manifest rewritten so that its own hash is right."""

import hashlib
import json


def flip_byte(path, at):
    """Change one bit of the byte at a place; a second call mends it."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(bytes(data))


def reseal(bundle, change):
    """Let ``change`` alter the manifest, then write it with the sha256 of what it became."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    change(manifest)
    data = json.dumps(manifest).encode("utf-8")
    (bundle / "manifest.json").write_bytes(data)
    (bundle / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


NONE_ALLOWED = {"default": {"largest": 0.0, "mean": 0.0, "divergence": 0.0}}


def spoil_int8(manifest):
    """Let int8-cpu come first on every machine, with fp32 behind it, and fail its golden images."""
    manifest["order"] = {"default": ["int8-cpu", "fp32"]}
    for model in manifest["models"]:
        if model["name"] == "int8-cpu":
            model["tolerances"] = NONE_ALLOWED


def before_features(manifest):
    """Turn a manifest into one of format 2, whose models have no features."""
    manifest["format_version"] = 2
    without_features(manifest)


def without_features(manifest):
    """Let no model have features, and so no distance."""
    for model in manifest["models"]:
        del model["features"], model["known_images"]
        for limits in model["tolerances"].values():
            del limits["features"]


def replace_file(bundle, name, data):
    """Replace one of the bundle's files, and tell the manifest."""
    (bundle / name).write_bytes(data)
    facts = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    reseal(bundle, lambda manifest: manifest["files"].update({name: facts}))


def rename_labels(bundle, rename):
    """Give each label another name, ``rename(number)``, in the manifest and with the golden images' logits."""
    labels = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["labels"]
    renamed = [rename(number) for number in range(len(labels))]
    golden = json.loads((bundle / "golden" / "expected.json").read_text(encoding="utf-8"))
    golden["labels"] = renamed
    replace_file(bundle, "golden/expected.json", json.dumps(golden).encode("utf-8"))
    reseal(bundle, lambda manifest: manifest.update(labels=renamed))
