"""``selftest``: checks every model of a bundle on the golden images, on each backend that can run it here."""

import os
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

from ..bundle.open_bundle import Bundle, Model, open_bundle
from ..classify.golden import GoldenReport, check_golden
from ..classify.selection import candidates, open_within, pair_name, prepare
from ..device.time_limit import Hung
from ..errors import BackendError
from ..runners.base import close_quietly, library_errors
from ..text.terminal import printable


class SelftestReport(NamedTuple):
    """The result of a self-test.

    reports     one for each model and backend that ran
    failures    reasons of the others, by "model on backend"
    """

    reports: Tuple[GoldenReport, ...]
    failures: Dict[str, str]

    @property
    def passed(self) -> bool:
        """True if at least one model ran, and all that ran are within their tolerances."""
        return bool(self.reports) and all(report.passed for report in self.reports)

    def to_dict(self) -> Dict[str, object]:
        """Return the report as JSON can hold it."""
        reports = [report.to_dict() for report in self.reports]
        return {"passed": self.passed, "reports": reports, "failures": self.failures}

    def __str__(self) -> str:
        lines = [str(report) for report in self.reports]
        lines += ["not run: {}: {}".format(name, reason) for name, reason in self.failures.items()]
        return "\n".join(printable(line, "\n  ") for line in lines)


def selftest(
    bundle: Union[str, "os.PathLike[str]"],
    model: Optional[str] = None,
    backend: str = "auto",
    threads: Optional[int] = None,
) -> SelftestReport:
    """Verify a bundle and check its models on the golden images."""
    opened = open_bundle(bundle)
    reports: List[GoldenReport] = []
    failures: Dict[str, str] = {}
    pairs = candidates(opened, model, backend)
    prepare(opened, pairs)
    for candidate, name in pairs:
        try:
            with library_errors("it failed", ImportError):
                reports.append(_report(opened, candidate, name, threads))
        except BackendError as error:
            failures[pair_name(candidate, name)] = str(error)
    return SelftestReport(tuple(reports), failures)


def _report(bundle: Bundle, model: Model, backend: str, threads: Optional[int]) -> GoldenReport:
    runner = open_within(bundle, model, backend, threads)
    try:
        report = check_golden(bundle, model, runner)
    except (Hung, KeyboardInterrupt):
        raise  # a thread may still be inside
    except BaseException:
        close_quietly(runner)
        raise
    close_quietly(runner)
    return report
