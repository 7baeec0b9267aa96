"""Every model of a bundle against its golden images, on each backend that can run it here."""

from typing import Any, Dict, NamedTuple, Tuple

from ..bundle.open import open_bundle
from ..classify.golden import GoldenReport, check_golden
from ..classify.selection import candidates, open_within, pair_name, prepare
from ..device.time_limit import Hung
from ..errors import BackendError
from ..runners.base import close_quietly, library_errors
from ..text.terminal import printable


class SelftestReport(NamedTuple):
    """The outcome of a self-test.

    reports     one for each model and backend that ran
    failures    by "model on backend": why it could not run
    """

    reports: Tuple[GoldenReport, ...]
    failures: Dict[str, str]

    @property
    def passed(self):
        """Whether at least one model ran, and each that ran is within its tolerance."""
        return bool(self.reports) and all(report.passed for report in self.reports)

    def to_dict(self) -> Dict[str, Any]:
        """The report as JSON can hold it."""
        reports = [report.to_dict() for report in self.reports]
        return {"passed": self.passed, "reports": reports, "failures": self.failures}

    def __str__(self):
        lines = [str(report) for report in self.reports]
        lines += ["not run: {}: {}".format(name, reason) for name, reason in self.failures.items()]
        return "\n".join(printable(line, "\n  ") for line in lines)


def selftest(bundle, model=None, backend="auto", threads=None):
    """Verify a bundle and hold its models to the golden images; returns a SelftestReport."""
    bundle = open_bundle(bundle)
    reports, failures = [], {}
    pairs = candidates(bundle, model, backend)
    prepare(bundle, pairs)
    for candidate, name in pairs:
        try:
            with library_errors("it failed", ImportError):
                reports.append(_report(bundle, candidate, name, threads))
        except BackendError as error:
            failures[pair_name(candidate, name)] = str(error)
    return SelftestReport(tuple(reports), failures)


def _report(bundle, model, backend, threads):
    runner = open_within(bundle, model, backend, threads)
    try:
        report = check_golden(bundle, model, runner)
    except (Hung, KeyboardInterrupt):
        raise  # a thread may still be inside of it
    except BaseException:
        close_quietly(runner)
        raise
    close_quietly(runner)
    return report
