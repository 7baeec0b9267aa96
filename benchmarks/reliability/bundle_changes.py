"""Changes to a bundle that somebody, or chance, might make; each says whether the bundle must then be refused."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from small_bundle import files_of, linear_model, seal


class Change(NamedTuple):
    """A kind of change.

    apply   changes the bundle and returns what was done, and whether it must be refused
    """

    kind: str
    weight: float
    apply: Callable[[Path, random.Random], tuple[str, bool]]


# Values of every kind, and some that are out of every range.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, 10**18, -(10**18), 0.5, -0.5, 1e308, "", "x", "fp32", "../../x", "/etc/passwd", "a\nb",
    "\x1b]0;title\x07", "\u202egnp", "=1+1", "x" * 5000, [], [[]], [1], ["x"], {}, {"x": 1}, {"": []}, {"default": []},
)  # fmt: skip
# Fields that hold whatever the host wanted to say, and are shown or passed on as they are.
FREE = ("provenance", "metrics")


def _manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


def _nodes(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*where, key)
        yield from _nodes(item, (*where, key))


def _parent(value: Any, where: tuple[Any, ...]) -> Any:
    for key in where[:-1]:
        value = value[key]
    return value


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _bend(content: Any, chance: random.Random) -> tuple[tuple[Any, ...], Any, Any]:
    """Replace a value, or one of the first levels, which are few, by one of another kind; returns where, old and new."""
    places = list(_nodes(content))
    few = [place for place in places if len(place) <= 2 and place[0] != "files"] or places
    where = chance.choice(few if chance.random() < 0.7 else places)
    parent = _parent(content, where)
    old, new = parent[where[-1]], chance.choice(VALUES)
    parent[where[-1]] = new
    return where, old, new


def bend_manifest(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A field of the manifest gets another value."""
    content = _manifest(path)
    where, old, new = _bend(content, chance)
    seal(path, content)
    free = any(name in FREE for name in where)
    return f"{where} = {new!r:.80}", _kind(old) != _kind(new) and not free


def bend_golden(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A field of the golden file gets another value, with consistent hashes."""
    content = json.loads((path / "golden" / "expected.json").read_text(encoding="utf-8"))
    where, old, new = _bend(content, chance)
    _write(path, "golden/expected.json", json.dumps(content).encode())
    return f"{where} = {new!r:.80}", _kind(old) != _kind(new)


def drop_field(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A field of the manifest is missing, or has another name, or there is one more."""
    content = _manifest(path)
    where = chance.choice([place for place in _nodes(content) if isinstance(_parent(content, place), dict)])
    parent = _parent(content, where)
    how = chance.choice(("missing", "renamed", "more"))
    if how != "more":
        value = parent.pop(where[-1])
    if how != "missing":
        parent["surplus"] = value if how == "renamed" else 1
    seal(path, content)
    free = any(name in FREE for name in where[:-1]) or where == ("order", "x86_64")
    return f"{where} {how}", not (free or (where[:2] == ("provenance",) and how == "more"))


def bend_json(path: Path, chance: random.Random) -> tuple[str, bool]:
    """The manifest, or the golden file, is no plain JSON."""
    name = chance.choice(("manifest.json", "golden/expected.json"))
    text = (path / name).read_text(encoding="utf-8").rstrip()
    first = "name" if name == "manifest.json" else "images"
    data = chance.choice(
        [
            text[:-1].encode() + f', "{first}": {json.dumps(json.loads(text)[first])}}}'.encode(),
            text[:-1].encode() + b', "x": NaN}',
            text[:-1].encode() + b', "provenance": -Infinity}',
            text[:-1].encode() + b', "x": 1e999}',
            text[:-1].encode() + b', "x": ' + b"9" * chance.choice((40, 5000, 300000)) + b"}",
            text[:-1].encode() + b', "x": ' + b"[" * chance.choice((40, 900, 100000)) + b"}",
            text[:-1].encode() + b', "x": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
            text[: chance.randrange(len(text))].encode(),
            b"\xef\xbb\xbf" + text.encode(),
            text.encode("utf-16"),
            text.encode() + b"\0",
            text.encode() + b"{}",
            text.replace('"', '"\\u001b', 3).encode(),
            b"[" * chance.choice((1000, 1000000)),
            b'"' * 7,
            b"",
            b"null",
            b"[]",
            bytes(chance.randrange(256) for _ in range(100)),
        ]
    )
    if name == "manifest.json":
        seal(path, data)
    else:
        _write(path, name, data)
    return f"{name}: {data[-40:]!r}", True


def bend_names(path: Path, chance: random.Random) -> tuple[str, bool]:
    """The manifest lists a file by a name that leads elsewhere, or in two ways."""
    content = _manifest(path)
    facts = content["files"]["model.fp32.onnx"]
    name = chance.choice(
        [
            "/etc/passwd", "../good.edge/model.fp32.onnx", "golden/../model.fp32.onnx", "./model.fp32.onnx",
            "golden//000.png", "golden/./000.png", "golden\\000.png", "golden/", "golden", ".", "", "..", "C:/x",
            "model.fp32.onnx/", "x" * 300, "a/" * 300 + "b", "\0", "model.fp32.onnx\n", "manifest.json",
            "file:///etc/passwd", "~/x", "edgeclf_runtime", "MODEL.FP32.ONNX",
        ]
    )  # fmt: skip
    if chance.random() < 0.5:
        content["models"][0]["file"] = name
    content["files"][name] = facts
    seal(path, content)
    return repr(name), True


def flip(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A byte of a file is another, its end is missing, or there is more of it; the hashes are as they were."""
    file = chance.choice([file for file in sorted(path.rglob("*")) if file.is_file()])
    data = bytearray(file.read_bytes())
    how = chance.choice(("flip", "cut", "grow")) if data else "grow"
    if how == "flip":
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif how == "cut":
        del data[chance.randrange(len(data)) :]
    else:
        data += bytes([chance.randrange(256)])
    file.write_bytes(bytes(data))
    return f"{how} {file.name}", True


def replace_by(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A file or folder is a link, pipe, socket or device, though the bytes may be the same."""
    target = chance.choice([entry for entry in sorted(path.rglob("*")) if entry.name != "__pycache__"])
    away = path.parent / "away"
    _clear(away)
    target.rename(away)
    kinds = {
        "link to the same": lambda: target.symlink_to(away),
        "link that leads nowhere": lambda: target.symlink_to("nowhere"),
        "link to /dev/zero": lambda: target.symlink_to("/dev/zero"),
        "link to itself": lambda: target.symlink_to(target.name),
        "pipe": lambda: os.mkfifo(target),
        "socket": lambda: _socket(target),
        "folder": lambda: target.mkdir() if away.is_file() else target.touch(),
        "nothing": lambda: None,
    }
    if os.getuid() == 0:
        kinds["device"] = lambda: os.mknod(target, 0o20666, os.makedev(1, 5))
    kind = chance.choice(sorted(kinds))
    kinds[kind]()
    return f"{target.relative_to(path)} is {kind}", True


def _clear(path: Path) -> None:
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def _socket(path: Path) -> None:
    # The path of a socket is short, wherever the folder is.
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def add(path: Path, chance: random.Random) -> tuple[str, bool]:
    """Something is there that the manifest does not list: a module that shadows another, byte code, a folder, a link."""
    folder = chance.choice([path, path / "edgeclf_runtime", path / "edgeclf_runtime" / "runners", path / "golden"])
    name = chance.choice(
        ["json", "numpy", "cv2", "hashlib", "argparse", "importlib", "os", "sitecustomize", "typing", "logging", "ssl"]
    )
    code = "raise SystemExit('this code was planted')"
    kind = chance.choice(
        ("module", "package", "linked package", "byte code", "library", "pth", "empty", "pipe", "file")
    )
    if kind == "module":
        (folder / f"{name}.py").write_text(code)
    elif kind == "package":
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    elif kind == "linked package":
        away = path.parent / "package"
        _clear(away)
        away.mkdir()
        (away / "__init__.py").write_text(code)
        (folder / name).symlink_to(away)
    elif kind == "byte code":
        _clear(folder / "__pycache__")
        (folder / "__pycache__").mkdir()
        (folder / "__pycache__" / f"{name}.cpython-311.pyc").write_bytes(b"\0" * 32)
    elif kind == "library":
        (folder / f"{name}.abi3.so").write_bytes(b"\x7fELF")
    elif kind == "pth":
        (folder / f"{name}.pth").write_text("import sys")
    elif kind == "empty":
        (folder / name).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / f"._{name}").touch()
    return f"{kind} {name} in {folder.name}", True


def refer(path: Path, chance: random.Random) -> tuple[str, bool]:
    """The model refers to another file, with consistent hashes."""
    from onnx import TensorProto, helper

    model = linear_model()
    outside = path.parent / "outside.bin"
    outside.write_bytes(b"\0" * 4096)
    location = chance.choice([str(outside), "../outside.bin", "golden/000.png", "manifest.json", "/etc/passwd"])

    def external(name: str) -> Any:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[3, 5], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="length", value="60")
        return tensor

    where = chance.choice(("initializer", "constant", "subgraph", "sparse", "context"))
    if where == "initializer":
        model.graph.initializer[0].CopyFrom(external("weights"))
    elif where == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=external("unused")))
    elif where == "subgraph":
        inner = helper.make_graph(
            [helper.make_node("Identity", ["there"], ["given"])],
            "inner",
            [],
            [helper.make_tensor_value_info("given", TensorProto.FLOAT, [3, 5])],
            [external("there")],
        )
        model.graph.node.insert(0, helper.make_node("If", ["yes"], ["unused"], then_branch=inner, else_branch=inner))
        model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    elif where == "sparse":
        model.graph.sparse_initializer.add().values.CopyFrom(external("values"))
    else:
        model.graph.node.add(op_type="EPContext", domain="com.microsoft", input=["image"], output=["context"])
    _write(path, "model.fp32.onnx", model.SerializeToString())
    return f"{where}: {location}", True


def spoil_model(path: Path, chance: random.Random) -> tuple[str, bool]:
    """The model is damaged, or another, with consistent hashes; the golden images need not notice."""
    data = bytearray((path / "model.fp32.onnx").read_bytes())
    for _ in range(chance.choice((1, 1, 3, 30))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.2:
        del data[chance.randrange(len(data)) :]
    _write(path, "model.fp32.onnx", bytes(data))
    return "other bytes", False


def spoil_image(path: Path, chance: random.Random) -> tuple[str, bool]:
    """A golden image is damaged, with consistent hashes."""
    data = bytearray((path / "golden" / "001.png").read_bytes())
    for _ in range(chance.choice((1, 3, 30))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    _write(path, "golden/001.png", bytes(data))
    return "other bytes", False


def _write(path: Path, name: str, data: bytes) -> None:
    (path / name).write_bytes(data)
    seal(path, dict(_manifest(path), files=files_of(path)))


CHANGES = (
    Change("field of the manifest", 4, bend_manifest),
    Change("field of golden images", 2, bend_golden),
    Change("missing field", 2, drop_field),
    Change("JSON", 2, bend_json),
    Change("file name", 1, bend_names),
    Change("changed byte", 1, flip),
    Change("no regular file", 2, replace_by),
    Change("something added", 2, add),
    Change("external data", 1, refer),
    Change("model", 1, spoil_model),
    Change("golden image", 1, spoil_image),
)
