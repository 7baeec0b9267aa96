import json
import sys

import pytest

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.commands.selftest import selftest
from tests.support.sealing import reseal, spoil_int8

pytestmark = pytest.mark.slow


def test_every_model_that_this_machine_would_try_is_tested(bundle):
    report = selftest(bundle)
    assert report.passed
    assert [row.model for row in report.reports] == [row["model"] for row in report.to_dict()["reports"]]
    assert len(report.reports) >= 1
    assert json.loads(json.dumps(report.to_dict()))["passed"] is True


def test_one_model_can_be_tested_on_one_backend_or_on_all(bundle):
    assert {row.model for row in selftest(bundle, "fp32", threads=1).reports} == {"fp32"}
    for _, backend in candidates(open_bundle(bundle), "fp32"):
        (report,) = selftest(bundle, "fp32", backend).reports
        assert (report.model, report.backend, report.passed) == ("fp32", backend, True)


def test_one_model_that_fails_fails_the_test(copied):
    reseal(copied, spoil_int8)
    report = selftest(copied)
    assert not report.passed
    assert {row.model for row in report.reports if not row.passed} == {"int8-cpu"}
    assert {row.model for row in report.reports if row.passed} == {"fp32"}
    assert "FAIL: " in str(report)
    assert "logits differ by " in str(report)


def test_a_model_that_no_backend_can_load_is_reported_and_does_not_pass(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = selftest(bundle, "fp32", "onnxruntime")
    assert not report.passed
    assert str(report).startswith("not run: fp32 on onnxruntime: onnxruntime is not installed for ")
