"""Finds what the runtime lacks on this machine, and how to fix it.

Nothing is changed.  Whatever may hang or crash runs in a child process, so that the doctor survives it.
"""

import os
import shutil
import sys
import textwrap
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import edgeclf_runtime

from ... import __version__
from ...bundle.open_bundle import MANIFEST
from ...files.user_folders import cache_folder
from ...text.terminal import printable
from .checks import STATUSES, Check
from .decoding import check_decoding
from .libraries import (
    check_bundle,
    check_cuda,
    check_numpy,
    check_onnxruntime,
    check_opencv,
    check_openvino,
    check_python,
    check_tensorrt,
)
from .system import (
    check_board,
    check_cache,
    check_cameras,
    check_clock,
    check_confinement,
    check_memory,
    check_power,
    check_processors,
    check_shared_memory,
)

MODEL_TIMEOUT_S = 120.0
_COLORS = {"ok": "32", "warning": "33", "fail": "31", "unknown": "36"}


class DoctorReport(NamedTuple):
    """The doctor's findings."""

    checks: Tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True if nothing must be fixed; warnings are not failures."""
        return all(check.status != "fail" for check in self.checks)

    def to_dict(self) -> Dict[str, object]:
        """Return the report as JSON can hold it."""
        return {"passed": self.passed, "checks": [check.to_dict() for check in self.checks]}

    def __str__(self) -> str:
        terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if terminal else None
        return self.text(width, color=terminal and "NO_COLOR" not in os.environ)

    def text(self, width: Optional[int] = None, color: bool = False) -> str:
        """Return the report as lines of at most ``width`` characters; None: of any length."""
        margin = max(len(check.name) for check in self.checks) + 11
        lines: List[str] = []
        for check in self.checks:
            status = "{:<7}".format(check.status)
            if color:
                status = "\033[{}m{}\033[0m".format(_COLORS[check.status], status)
            found = _wrap(check.found, width, margin)
            lines.append("{}  {:<{}}{}".format(status, check.name, margin - 9, found[0]))
            lines += [" " * margin + line for line in found[1:]]
            lines += [" " * margin + line for line in _wrap("fix: " + check.fix, width, margin) if check.fix]
        counts = [(sum(check.status == status for check in self.checks), status) for status in STATUSES]
        return "\n".join(lines + ["", ", ".join("{} {}".format(*count) for count in counts if count[0])])


def _wrap(text: str, width: Optional[int], margin: int) -> List[str]:
    lines = [printable(line) for line in text.splitlines()]
    if width is not None:
        room = max(width - margin, 30)
        lines = [
            part for line in lines for part in textwrap.wrap(line, room, break_long_words=False, break_on_hyphens=False)
        ]
    return lines or [""]


def doctor(
    bundle: Union[str, "os.PathLike[str]", None] = None, root: str = "/", model_timeout_s: float = MODEL_TIMEOUT_S
) -> DoctorReport:
    """Check Python, libraries, GPU, cameras, disk, clock, memory, limits and power, and a bundle's models.

    bundle      a bundle to verify; each of its models is then checked on the golden images, in a separate process
    root        folder that has /dev, /proc, /sys, /etc, /run, /tmp and /var

    Takes a few seconds for each library and model.
    """
    made = [os.path.abspath(edgeclf_runtime.__file__)] + ([os.path.join(str(bundle), MANIFEST)] if bundle else [])
    checks = [check_board(root), check_processors(root), check_python(), check_numpy()]
    checks += [*check_opencv(root), check_decoding(root), check_cuda(root), check_tensorrt(root), check_onnxruntime()]
    checks += [check_openvino(root)]
    checks += [*check_cameras(root), check_confinement()]
    checks += [check_cache(cache_folder()), check_clock(made, root=root), check_memory(root)]
    checks += [check_shared_memory()]
    checks += check_power(root)
    if bundle:
        checks += check_bundle(bundle, model_timeout_s)
    return DoctorReport(tuple([_runtime()] + checks))


def _runtime() -> Check:
    return Check(
        "edgeclf",
        "ok",
        "runtime {} in {}".format(__version__, os.path.dirname(os.path.abspath(edgeclf_runtime.__file__))),
    )
