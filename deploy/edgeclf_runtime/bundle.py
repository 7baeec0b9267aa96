"""Opening a bundle: every byte is checked before anything of it is parsed or loaded.

A bundle is a folder, ``NAME.edge/``.  ``manifest.sha256`` holds the hash of ``manifest.json``,
and the manifest holds size and hash of every other file.  The hashes find damage and mix-ups;
they are no signature, so they do not tell who made a bundle.

Knows nothing of inference; ``classifier.py`` does.
"""

import json
import os
from typing import Any, Dict, List, NamedTuple, Tuple

from .errors import BundleError, EdgeclfError
from .files import sha256_bytes, sha256_file
from .preprocess import Preprocessing

FORMAT = "edgeclf-bundle"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
_MAX_MANIFEST_BYTES = 16 << 20
_COPY_AGAIN = "copy the bundle again from where it was made"


class Model(NamedTuple):
    """One model file of a bundle, as the manifest's ``models`` lists it.

    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    tolerance       the largest difference of a logit from the golden one that still passes
    metrics         what the host measured, by name
    """

    name: str
    file: str
    precision: str
    backends: Tuple[str, ...]
    temperature: float
    threshold: float
    tolerance: float
    metrics: Dict[str, Any]


class Bundle(NamedTuple):
    """A verified bundle; made by :func:`open_bundle` alone."""

    path: str
    id: str
    name: str
    labels: Tuple[str, ...]
    preprocessing: Preprocessing
    models: Tuple[Model, ...]
    order: Dict[str, List[str]]
    provenance: Dict[str, Any]
    files: Dict[str, Dict[str, Any]]

    def file(self, name):
        """Return the absolute path of one of the bundle's files."""
        return os.path.join(self.path, *name.split("/"))

    def model(self, name):
        """Return the Model of that name; BundleError lists the names there are."""
        for model in self.models:
            if model.name == name:
                return model
        raise BundleError(
            "{} holds no model {!r}; it holds {}".format(self.path, name, ", ".join(m.name for m in self.models))
        )

    def in_order(self, machine):
        """Return the models as the manifest orders them for a machine (``platform.machine()``)."""
        return [self.model(name) for name in self.order.get(machine, self.order["default"])]


def open_bundle(path):
    """Verify a bundle and read its manifest.

    Raises BundleError, its message naming the file, where one is damaged, missing or was
    added, and where the manifest is of a newer format than this runtime knows.
    """
    path = os.path.abspath(str(path))
    data = _manifest_bytes(path)
    try:
        manifest = json.loads(data.decode("utf-8"))
        if manifest["format"] != FORMAT:
            raise BundleError("{}: its format is {!r}, {!r} was expected".format(path, manifest["format"], FORMAT))
        if manifest["format_version"] > FORMAT_VERSION:
            raise BundleError(
                "{} is of bundle format {}, and this runtime reads up to {}: start it by the runtime inside it "
                "(python3 {} ...), or upgrade edgeclf".format(path, manifest["format_version"], FORMAT_VERSION, path)
            )
        verify_files(path, manifest["files"])
        return _read(path, sha256_bytes(data), manifest)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BundleError(
            "{}: its {} lacks or garbles a field ({!r}); make the bundle again".format(path, MANIFEST, error)
        )


def verify_files(path, files):
    """Compare a folder's files with the manifest's sizes and hashes; raise BundleError at the first that differs."""
    for name in files:
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise BundleError(
                "{}: its manifest names the file {!r}, which lies outside of it; do not use it".format(path, name)
            )
    missing = sorted(name for name in files if not os.path.isfile(os.path.join(path, name)))
    if missing:
        raise BundleError("{}: {} is missing; {}".format(path, _some(missing), _COPY_AGAIN))
    added = sorted(set(_walk(path)) - set(files) - {MANIFEST, MANIFEST_HASH})
    if added:
        raise BundleError(
            "{}: {} does not belong to it; remove what was added, or {}".format(path, _some(added), _COPY_AGAIN)
        )
    for name, expected in sorted(files.items()):
        file = os.path.join(path, name)
        try:
            size, sha256 = os.path.getsize(file), sha256_file(file)
        except OSError as error:
            raise BundleError("{}: {} cannot be read ({}); {}".format(path, name, error.strerror, _COPY_AGAIN))
        if size != expected["size"]:
            raise BundleError(
                "{}: {} has {} bytes, {} were expected; {}".format(path, name, size, expected["size"], _COPY_AGAIN)
            )
        if sha256 != expected["sha256"]:
            raise BundleError(
                "{}: {} was changed (its sha256 differs from the manifest's); {}".format(path, name, _COPY_AGAIN)
            )


def _some(names):
    return ", ".join(names[:3]) + (" and {} more".format(len(names) - 3) if len(names) > 3 else "")


def _manifest_bytes(path):
    if not os.path.isdir(path):
        raise BundleError(
            "{} is not a bundle: a folder NAME.edge was expected; make one with: edgeclf bundle RUN --output NAME.edge".format(
                path
            )
        )
    try:
        if os.path.getsize(os.path.join(path, MANIFEST)) > _MAX_MANIFEST_BYTES:
            raise BundleError(
                "{}: its {} is larger than {} MB; do not use it".format(path, MANIFEST, _MAX_MANIFEST_BYTES >> 20)
            )
        with open(os.path.join(path, MANIFEST), "rb") as stream:
            data = stream.read()
        with open(os.path.join(path, MANIFEST_HASH), "rb") as stream:
            line = stream.read(1024).decode("ascii", "replace")
    except OSError as error:
        raise BundleError(
            "{} is not a complete bundle: {} is missing or unreadable; {}".format(
                path, os.path.basename(error.filename or MANIFEST), _COPY_AGAIN
            )
        )
    if line != "{}  {}\n".format(sha256_bytes(data), MANIFEST):
        raise BundleError(
            "{}: {} or {} was changed (the second holds the sha256 of the first); {}".format(
                path, MANIFEST, MANIFEST_HASH, _COPY_AGAIN
            )
        )
    return data


def _walk(path):
    for folder, folders, names in os.walk(path):
        # Python may leave its byte code there; it is no part of the bundle.
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), path).replace(os.sep, "/")


def _read(path, identity, manifest):
    try:
        preprocessing = Preprocessing(**manifest["preprocessing"]).check()
    except EdgeclfError as error:
        raise BundleError("{}: {}; upgrade edgeclf".format(path, error))
    models = tuple(Model(**dict(model, backends=tuple(model["backends"]))) for model in manifest["models"])
    for model in models:
        if model.file not in manifest["files"] or not model.backends or not model.temperature > 0:
            raise ValueError("model {}".format(model.name))
    if not manifest["labels"] or not manifest["order"]["default"]:
        raise ValueError("labels and order")
    return Bundle(
        path=path,
        id=identity,
        name=manifest["name"],
        labels=tuple(manifest["labels"]),
        preprocessing=preprocessing,
        models=models,
        order=manifest["order"],
        provenance=manifest["provenance"],
        files=manifest["files"],
    )
