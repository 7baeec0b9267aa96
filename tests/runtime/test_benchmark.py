import json
import sys

import pytest

from edgeclf_runtime.benchmark import PERCENTILES, STAGES, bench, machine_facts, summarise
from edgeclf_runtime.errors import BackendError


def test_percentiles_are_those_of_the_numbers():
    assert summarise(range(1, 101)) == {"p50": 50.5, "p90": 90.1, "p99": 99.01, "mean": 50.5}
    assert summarise([7]) == {"p50": 7, "p90": 7, "p99": 7, "mean": 7}


def test_every_model_is_measured_as_often_as_was_asked(bundle):
    report = bench(bundle, repeat=7, warmup=1, threads=1)
    assert report.samples_ms
    assert not report.failures
    for name, samples in report.samples_ms.items():
        assert len(samples) == 7
        assert set(report.latency_ms[name]) == set(STAGES)
        for row in report.latency_ms[name].values():
            assert 0 <= row["p50"] <= row["p90"] <= row["p99"]
            assert set(row) == {f"p{p}" for p in PERCENTILES} | {"mean"}
        assert name in str(report)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_a_bundle_of_which_nothing_runs_is_an_error(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="onnxruntime is not there for"):
        bench(bundle, repeat=1)


def test_figures_carry_the_machine_that_they_were_measured_on():
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert {"machine", "processor", "python", "numpy", "opencv", "edgeclf_runtime"} <= set(facts)
