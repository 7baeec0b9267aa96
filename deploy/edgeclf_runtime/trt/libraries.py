"""cuBLAS and cuDNN in a build: left out on a small board, and used only if the build fails without them.

On a 4 GB Nano with TensorRT 8.2, cuBLAS took about 160 MB and cuDNN about 240 MB of the board's memory, in the build and in
every process that runs the engine (https://github.com/NVIDIA/TensorRT/issues/2217).  TensorRT has its own kernels for
convolutions and fully connected layers; the plugin library is linked to both libraries.
"""

from typing import TYPE_CHECKING, List, Optional, Tuple

from .versions import Version, has

if TYPE_CHECKING:
    from types import ModuleType

    from .network import BuilderConfig

# TensorRT 11 has none of them.
_NAMES = ("CUBLAS", "CUBLAS_LT", "CUDNN")


def leave_out(trt: "ModuleType", version: Version, config: "BuilderConfig") -> Optional[int]:
    """Remove cuBLAS and cuDNN from a build's sources of tactics; the others, such as JIT_CONVOLUTIONS, stay as they are.

    Returns the earlier sources, for ``config.set_tactic_sources``, or None if nothing was removed.
    """
    used = _used(trt, version, config)
    if not used:
        return None
    before = config.get_tactic_sources()
    left = before
    for _, bit in used:
        left &= ~bit
    return before if config.set_tactic_sources(left) else None


def used_by(trt: "ModuleType", version: Version, config: "BuilderConfig") -> List[str]:
    """Return the names, as in TacticSource, of these libraries that a build takes tactics from."""
    return [name for name, _ in _used(trt, version, config)]


def _used(trt: "ModuleType", version: Version, config: "BuilderConfig") -> List[Tuple[str, int]]:
    known = getattr(trt, "TacticSource", None)
    names = [name for name in _NAMES if hasattr(known, name)]
    if not names or not has(version, "tactics of other libraries"):
        return []
    sources = config.get_tactic_sources()
    bits = [(name, 1 << int(getattr(known, name))) for name in names]
    return [(name, bit) for name, bit in bits if sources & bit]
