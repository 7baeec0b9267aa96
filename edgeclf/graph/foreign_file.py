"""Reads model files of other programs without running any code from them: ONNX, and the members of a TorchScript archive.

ONNX may keep its weights in a second file (external data), as torch's newer exporter does.  Such a file is read only if it
is a regular file next to the model, and its bytes become part of the model.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.bundle.model_file import MAX_BYTES, foreign_reference
from edgeclf_runtime.files.read import open_regular, read_bytes
from edgeclf_runtime.runners.base import brief

from ..errors import ModelError

if TYPE_CHECKING:
    import onnx

TORCHSCRIPT_SUFFIXES = (".pt", ".pth", ".torchscript", ".ts")
_EXPORT = (
    "export it to ONNX: ultralytics: yolo export model=NAME.pt format=onnx; "
    'torch: torch.onnx.export(model.eval(), (torch.zeros(1, 3, 224, 224),), "model.onnx")'
)
_MOST_CODE = 64 << 20
# Operators of TorchScript that read or write files, and hooks that run while the archive is loaded.
_UNSAFE = re.compile(
    r"\btorch\.(?:save|load|from_file)\b|\baten::(?:save|load|from_file)\b|\b__setstate__\b|(?<![\w.])ops\.(?!prim\b)\w+"
)


def read_onnx(path: Path) -> onnx.ModelProto:
    """Return an ONNX file as onnx.ModelProto that contains all of its data.

    Raises ModelError if it is not ONNX, is damaged, is larger than protobuf's 2 GB, or refers to files other than regular
    ones next to it.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(read_bytes(path, MAX_BYTES))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}); an ONNX file was expected") from None
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path} is not an ONNX file, or is damaged ({error}); export it again") from None
    if not model.graph.node or not model.opset_import:
        raise ModelError(f"{path} is not an ONNX file, or is empty; export it again")
    _take_in(model, path)
    try:
        reason = foreign_reference(model.SerializeToString())
        onnx.checker.check_model(model)
    except Exception as error:  # the checker has its own exceptions, protobuf has others
        raise ModelError(f"{path} is not valid ONNX ({brief(error)}); export it again") from None
    if reason:
        raise ModelError(f"{path} {reason}; a model that contains all its data was expected: save it again as one file")
    return model


def _take_in(model: onnx.ModelProto, path: Path) -> None:
    """Move external data of a graph's weights into the model; ModelError for any file but a regular one next to it."""
    left = MAX_BYTES - model.ByteSize()
    for tensor in model.graph.initializer:
        if tensor.data_location == tensor.EXTERNAL:
            facts = {entry.key: entry.value for entry in tensor.external_data}
            data = _slice(path, facts, left)
            left -= len(data)
            tensor.raw_data = data
            del tensor.external_data[:]
            tensor.data_location = tensor.DEFAULT


def _slice(path: Path, facts: dict[str, str], most: int) -> bytes:
    """Return the bytes that an entry of external data names."""
    name = facts.get("location", "")
    if not name or name in (".", "..") or name != os.path.basename(name) or "\\" in name or "\0" in name:
        raise ModelError(
            f"{path} keeps weights in {name[:100]!a}; only a file in the model's own folder is read: "
            "save it again as one file"
        )
    try:
        start, length = int(facts.get("offset") or 0), int(facts.get("length") or -1)
        if start < 0 or length < -1:
            raise ValueError("a negative offset or length")
        with open_regular(path.parent / name, follow=False) as stream:
            stream.seek(start)
            data = stream.read(most + 1 if length < 0 else min(length, most + 1))
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", "") or error
        raise ModelError(
            f"{path} keeps weights in {name}, which cannot be read ({reason}): copy it next to the model, "
            "or save the model again as one file"
        ) from None
    if len(data) > most:
        raise ModelError(f"{path} and {name} have more than {MAX_BYTES} bytes, the most that an ONNX file can hold")
    if len(data) < length:
        raise ModelError(f"{path} keeps weights in {name}, which ends too soon: copy both files again")
    return data


def check_torchscript(path: Path) -> str:
    """Check that a file is a TorchScript archive whose code neither reads nor writes files; return its ``config.txt``, or "".

    Raises ModelError for anything else: other files of torch are pickles, which run Python code when they are loaded.
    """
    try:
        with zipfile.ZipFile(open_regular(path)) as archive:
            members = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
            code = [info for name, info in members.items() if name.startswith("code/") and name.endswith(".py")]
            twice = len(members) != len(archive.namelist())  # readers differ in which one counts
            if "constants.pkl" not in members or "model.json" in members or not code or twice:
                raise ModelError(
                    f"{path} holds pickled weights or modules, which would run code when loaded; {_EXPORT}"
                )
            if sum(info.file_size for info in code) > _MOST_CODE:
                raise ModelError(f"{path} has more than {_MOST_CODE >> 20} MB of code; {_EXPORT}")
            found = _UNSAFE.search("\n".join(archive.read(info).decode("utf-8", "replace") for info in code))
            config = members.get("extra/config.txt")
            text = archive.read(config).decode("utf-8", "replace") if config and config.file_size < 1 << 24 else ""
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read ({error.strerror or error}); a TorchScript file was expected"
        ) from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path} is not a TorchScript file ({brief(error)}), perhaps a pickle; {_EXPORT}") from None
    if found:
        raise ModelError(f"{path} uses {found.group()}, which a classifier does not need; {_EXPORT}")
    return text
