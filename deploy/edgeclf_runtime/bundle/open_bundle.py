"""Opens a bundle: every byte is verified before anything is parsed or loaded, and again whenever a file is read.

A bundle is a folder, ``NAME.edge/``, of regular files.  ``manifest.sha256`` holds the hash of ``manifest.json``, which
holds the size and hash of every other file.  The hashes detect damage and mix-ups.  They are not a signature: they do
not prove who made a bundle.
"""

import contextlib
import mmap
import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from ..errors import BundleError, OptionError
from ..files.read import AnyPath, open_regular, read_bytes, sha256_bytes, sha256_stream
from ..files.schema import JsonObject, SchemaError, parse_json
from ..images.preprocess import Preprocessing
from .manifest import FORMAT, FORMAT_VERSION, MANIFEST_SCHEMA, OLDEST_FORMAT_VERSION
from .model_file import foreign_reference

MANIFEST = "manifest.json"
MANIFEST_HASH = "manifest.sha256"
_MAX_MANIFEST_BYTES = 8 << 20
_MAX_FILES = 10000
_COPY_AGAIN = "copy the bundle again from where it was made"

if TYPE_CHECKING:
    from typing import TypedDict

    class FileFacts(TypedDict):
        """A file's size in bytes and its hash, as hexadecimal digits."""

        size: int
        sha256: str

    Files = Mapping[str, FileFacts]


class Tolerance(NamedTuple):
    """Limits for a model's deviation from the host on the golden images.

    largest         difference of any logit
    mean            absolute difference, averaged over all logits
    divergence      mean Kullback-Leibler divergence of the probabilities, in nats
    features        absolute difference of the features' projections, averaged over all; None for a model without features
    """

    largest: float
    mean: float
    divergence: float
    features: Optional[float] = None


class KnownImagesFacts(NamedTuple):
    """The file and the numbers that give a model's distances; see KnownImages.

    file            the summary of the training images' features, an .npz file
    scales          the model's own scales
    usual_distance  95 % of validation images are nearer
    most_distance   a distance above it gives the label "unknown"; None: none does
    """

    file: str
    scales: Tuple[float, ...]
    usual_distance: float
    most_distance: Optional[float]


class Model(NamedTuple):
    """One of a bundle's model files, as listed in the manifest's ``models``.

    temperature     logits are divided by it before the softmax
    threshold       a confidence below it gives the label "unknown"
    tolerances      limits on the golden images by backend; "default" for the others
    metrics         the host's measurements, by name
    features        number of features that it outputs beside the logits; None if it has none
    known_images    KnownImagesFacts; None if it gives no distance
    label_thresholds    for labels that need a higher confidence, by label; None: no label does
    in_set          an image's label set has the labels whose confidence reaches it; None: no sets
    """

    name: str
    file: str
    precision: str
    backends: Tuple[str, ...]
    temperature: float
    threshold: float
    tolerances: Dict[str, Tolerance]
    metrics: JsonObject
    features: Optional[int] = None
    known_images: Optional[KnownImagesFacts] = None
    label_thresholds: Optional[Dict[str, float]] = None
    in_set: Optional[float] = None

    def tolerance(self, backend: str) -> Tolerance:
        """Return a backend's Tolerance."""
        return self.tolerances.get(backend, self.tolerances["default"])


class VerifiedFile:
    """One of a bundle's files, as listed in the manifest; usable as a path.

    path        absolute
    sha256      hexadecimal
    """

    def __init__(self, bundle: "Bundle", name: str) -> None:
        self._bundle, self._size, self.sha256 = bundle, bundle.files[name]["size"], bundle.files[name]["sha256"]
        self.path = os.path.join(bundle.path, *name.split("/"))

    def read(self) -> bytes:
        """Return the file's bytes; raises BundleError if they differ from the manifest."""
        try:
            data = read_bytes(self.path, self._size, follow=False)
        except OSError as error:
            raise BundleError("{} cannot be read ({}); {}".format(self.path, error.strerror, _COPY_AGAIN))
        except ValueError:
            data = b""
        if len(data) != self._size or sha256_bytes(data) != self.sha256:
            raise BundleError(
                "{} was changed (its size or sha256 differs from the manifest's); {}".format(self.path, _COPY_AGAIN)
            )
        return data

    def neighbor(self, path: AnyPath) -> "Optional[VerifiedFile]":
        """Return another file of the same bundle as a VerifiedFile, or None if the path is not in it."""
        name = os.path.relpath(str(path), self._bundle.path).replace(os.sep, "/")
        return VerifiedFile(self._bundle, name) if name in self._bundle.files else None

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path


class Bundle(NamedTuple):
    """A verified bundle; created only by :func:`open_bundle`."""

    path: str
    id: str
    name: str
    labels: Tuple[str, ...]
    preprocessing: Preprocessing
    models: Tuple[Model, ...]
    order: Dict[str, List[str]]
    provenance: JsonObject
    files: "Dict[str, FileFacts]"

    def file(self, name: str) -> VerifiedFile:
        """Return one of the bundle's files; BundleError if the manifest does not list it."""
        if name not in self.files:
            raise BundleError(
                "{}: its manifest does not list the file {!r}; make the bundle again".format(self.path, name)
            )
        return VerifiedFile(self, name)

    def model(self, name: str) -> Model:
        """Return the Model with this name; BundleError, listing the names, if there is none."""
        for model in self.models:
            if model.name == name:
                return model
        raise BundleError(
            "{} holds no model {!r}; it holds {}".format(self.path, name, ", ".join(m.name for m in self.models))
        )

    def in_order(self, machine: str) -> List[Model]:
        """Return the models in the manifest's order for a machine (``platform.machine()``)."""
        return [self.model(name) for name in self.order.get(machine, self.order["default"])]


def open_bundle(path: AnyPath) -> Bundle:
    """Verify a bundle and read its manifest.

    Raises BundleError, its message naming the file, if a file is damaged, missing, added or a link, if a model refers to
    files outside of the bundle, or if the manifest's format is newer than this runtime supports.
    """
    path = os.path.abspath(str(path))
    data = _manifest_bytes(path)
    try:
        manifest = parse_json(data)
        _check_format(path, manifest)
        MANIFEST_SCHEMA(manifest, "")
    except SchemaError as error:
        raise BundleError("{}: {}: {}; make the bundle again".format(path, MANIFEST, error))
    verify_files(path, manifest["files"])
    return _read(path, sha256_bytes(data), manifest)


def _check_format(path: str, manifest: object) -> None:
    if not isinstance(manifest, dict):
        raise SchemaError("it is not an object")
    if manifest.get("format") != FORMAT:
        raise BundleError("{}: its format is {!a}, {!r} was expected".format(path, manifest.get("format"), FORMAT))
    version = manifest.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool):
        return
    if not OLDEST_FORMAT_VERSION <= version <= FORMAT_VERSION:
        newer = version > FORMAT_VERSION
        raise BundleError(
            "{} was made by {} edgeclf: it has bundle format {}, and this runtime reads formats {} to {}: use the runtime inside "
            "the bundle (python3 {} ...), or {}".format(
                path,
                "a newer" if newer else "an older",
                version,
                OLDEST_FORMAT_VERSION,
                FORMAT_VERSION,
                path,
                "upgrade edgeclf" if newer else "make it again with edgeclf bundle",
            )
        )


def verify_files(path: str, files: "Files") -> None:
    """Compare a folder's content with the manifest's names, sizes and hashes; raise BundleError at the first difference.

    Only regular files and their folders are allowed: no links, pipes, devices or byte code.
    """
    found = _list_content(path, files)
    missing = sorted(set(files) - found)
    if missing:
        raise BundleError("{}: {} is missing; {}".format(path, _some(missing), _COPY_AGAIN))
    for name, expected in sorted(files.items()):
        _verify_file(path, name, expected)


def _verify_file(path: str, name: str, expected: "FileFacts") -> None:
    try:
        with open_regular(os.path.join(path, name), follow=False) as stream:
            size, sha256 = os.fstat(stream.fileno()).st_size, sha256_stream(stream)
            reason = _foreign_reference(stream, size) if name.endswith(".onnx") else ""
    except OSError as error:
        raise BundleError("{}: {} cannot be read ({}); {}".format(path, name, error.strerror, _COPY_AGAIN))
    if size != expected["size"]:
        raise BundleError(
            "{}: {} has {} bytes, but {} were expected; {}".format(path, name, size, expected["size"], _COPY_AGAIN)
        )
    if sha256 != expected["sha256"]:
        raise BundleError(
            "{}: {} was changed (its sha256 differs from the manifest's); {}".format(path, name, _COPY_AGAIN)
        )
    if reason:
        raise BundleError("{}: {} {}; do not use it".format(path, name, reason))


def _foreign_reference(stream: BinaryIO, size: int) -> str:
    if size == 0:
        return ""
    # Mapped, not read: a small machine need not hold a whole model in memory.
    with contextlib.closing(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        return foreign_reference(data)


def _list_content(path: str, files: "Files") -> Set[str]:
    """Return the names of the regular files in a folder; BundleError for anything the manifest does not list."""
    folders = {name[:at] for name in files for at, letter in enumerate(name) if letter == "/"}
    found: Set[str] = set()
    added: List[str] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for entry in _entries(path, folder):
            name = folder + entry
            mode = os.lstat(os.path.join(path, name)).st_mode
            if stat.S_ISDIR(mode) and name in folders:
                waiting.append(name + "/")
            elif stat.S_ISREG(mode) and (name in files or name in (MANIFEST, MANIFEST_HASH)):
                found.add(name)
            elif name in files or name in folders or name in (MANIFEST, MANIFEST_HASH):
                raise BundleError(
                    "{}: {} is {}, {} was expected; {}".format(
                        path, name, _kind(mode), "a folder" if name in folders else "a regular file", _COPY_AGAIN
                    )
                )
            else:
                added.append(name + " ({})".format(_kind(mode)) * (not stat.S_ISREG(mode)))
            if len(added) > _MAX_FILES:
                break
    if added:
        raise BundleError(
            "{}: {} does not belong to it; remove what was added, or {}".format(path, _some(sorted(added)), _COPY_AGAIN)
        )
    return found


def _entries(path: str, folder: str) -> List[str]:
    try:
        return os.listdir(os.path.join(path, folder))
    except OSError as error:
        raise BundleError("{}: {} cannot be read ({}); {}".format(path, folder or "it", error.strerror, _COPY_AGAIN))


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a link"), (stat.S_ISDIR, "a folder"), (stat.S_ISREG, "a file"), (stat.S_ISFIFO, "a pipe"))
    return next((kind for test, kind in kinds if test(mode)), "a device or a socket")


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(_shown, names[:3])) + (" and {} more".format(len(names) - 3) if len(names) > 3 else "")


def _shown(name: str) -> str:
    return name if name.isprintable() else ascii(name)


def _manifest_bytes(path: str) -> bytes:
    if not os.path.isdir(path):
        raise BundleError(
            "{} is not a bundle: a folder NAME.edge was expected; make one with: edgeclf bundle RUN --output NAME.edge".format(
                path
            )
        )
    data = _manifest_file(path, MANIFEST, _MAX_MANIFEST_BYTES)
    line = _manifest_file(path, MANIFEST_HASH, 1024)
    if line != "{}  {}\n".format(sha256_bytes(data), MANIFEST).encode("ascii"):
        raise BundleError(
            "{}: {} or {} was changed (the second holds the sha256 of the first); {}".format(
                path, MANIFEST, MANIFEST_HASH, _COPY_AGAIN
            )
        )
    return data


def _manifest_file(path: str, name: str, max_bytes: int) -> bytes:
    try:
        return read_bytes(os.path.join(path, name), max_bytes, follow=False)
    except OSError as error:
        raise BundleError(
            "{} is not a complete bundle: {} is missing or unreadable ({}); {}".format(
                path, name, error.strerror, _COPY_AGAIN
            )
        )
    except ValueError as error:
        raise BundleError("{}: {} is {}; do not use it".format(path, name, error))


def model_of(facts: JsonObject) -> Model:
    """Return the Model that an entry of the manifest's ``models`` describes."""
    tolerances = {backend: Tolerance(**limits) for backend, limits in facts["tolerances"].items()}
    known = facts.get("known_images")
    if known is not None:
        known = KnownImagesFacts(**dict(known, scales=tuple(known["scales"])))
    return Model(**dict(facts, backends=tuple(facts["backends"]), tolerances=tolerances, known_images=known))


def _read(path: str, identity: str, manifest: JsonObject) -> Bundle:
    try:
        preprocessing = Preprocessing(**manifest["preprocessing"]).check()
    except OptionError as error:
        raise BundleError("{}: {}; upgrade edgeclf".format(path, error))
    models = tuple(map(model_of, manifest["models"]))
    _check_references(path, manifest, models)
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


def _check_references(path: str, manifest: JsonObject, models: Iterable[Model]) -> None:
    """Raise BundleError if the manifest names a model or a file that it does not list."""
    names = [model.name for model in models]
    problems = ["two models have the name {!r}".format(name) for name in set(names) if names.count(name) > 1]
    problems += [
        "the model {!r} names the file {!r}, which is not listed".format(model.name, model.file)
        for model in models
        if model.file not in manifest["files"]
    ]
    problems += [
        "the model {!r} names the file {!r}, which is not listed".format(model.name, model.known_images.file)
        for model in models
        if model.known_images is not None and model.known_images.file not in manifest["files"]
    ]
    problems += [
        "the model {!r} has a threshold for the label {!r}, which is not listed".format(model.name, label)
        for model in models
        for label in model.label_thresholds or {}
        if label not in manifest["labels"]
    ]
    problems += [
        "order.{} names the model {!r}, which is not listed".format(machine, name)
        for machine, order in manifest["order"].items()
        for name in order
        if name not in names
    ]
    if problems:
        raise BundleError("{}: {}: {}; make the bundle again".format(path, MANIFEST, problems[0]))
