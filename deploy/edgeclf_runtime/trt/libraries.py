"""cuBLAS, cuDNN and TensorRT's plugins in a build: left out on a small board, and brought in if it fails without them.

On a 4 GB Nano with TensorRT 8.2 cuBLAS took about 160 MB and cuDNN about 240 MB of the board's memory, in the build and in
every process that runs the engine (https://github.com/NVIDIA/TensorRT/issues/2217).  TensorRT's own kernels do
convolutions and fully connected layers too; the plugin library is linked to both libraries.

Knows nothing of who builds what.
"""

from .versions import has

# TensorRT 11 has none of them left.
_NAMES = ("CUBLAS", "CUBLAS_LT", "CUDNN")


def leave_out(trt, version, config):
    """Take cuBLAS and cuDNN from a build's sources of tactics; the others, such as JIT_CONVOLUTIONS, stay as they are.

    Returns the sources as they were, for ``config.set_tactic_sources``, or None if nothing was taken.
    """
    used = _used(trt, version, config)
    if not used:
        return None
    before = config.get_tactic_sources()
    left = before
    for _, bit in used:
        left &= ~bit
    return before if config.set_tactic_sources(left) else None


def used_by(trt, version, config):
    """Return the names of these libraries that a build takes tactics from, as TacticSource has them."""
    return [name for name, _ in _used(trt, version, config)]


def _used(trt, version, config):
    known = getattr(trt, "TacticSource", None)
    names = [name for name in _NAMES if hasattr(known, name)]
    if not names or not has(version, "tactics of other libraries"):
        return []
    sources = config.get_tactic_sources()
    bits = [(name, 1 << int(getattr(known, name))) for name in names]
    return [(name, bit) for name, bit in bits if sources & bit]
