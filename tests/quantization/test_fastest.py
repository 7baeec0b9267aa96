"""The forms of a Q/DQ file: what computes in 8 bits, and which of them is kept."""

import itertools
import json
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest

from edgeclf import QuantizeOptions, quantize
from edgeclf.evaluation.comparison import Comparison, compare
from edgeclf.graph.int8.forms import FORMS, STANDARD, choose, forms_of, usual_form
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.layers import find_layers, float_layers
from edgeclf.graph.prepare import prepare
from edgeclf.options.quantization import FORMS as NAMES
from edgeclf.quantization.candidate import Candidate
from edgeclf.quantization.report import Findings, LayerTime
from edgeclf.quantization.search import Search
from edgeclf.quantization.speed import fastest
from edgeclf.quantization.speed.fastest import can_time, fastest_form
from edgeclf.quantization.speed.layer_times import layer_times, unexpected_float
from edgeclf.targets import FLAVORS, OPSET
from tests.support.graphs import conv_graph, gated_graph


def written(model, form, name="int8-cpu"):
    """A model's file in a form, as an onnx graph."""
    ranges = dict.fromkeys(("image", *(output for node in model.graph.node for output in node.output)), (-3.0, 3.0))
    return write_flavor(model, FLAVORS[name], ranges, Rounding(model, {}), form=FORMS[form]).graph


def attention_graph():
    """Return a model with an operator of transformers, of which only layers with weights are quantized."""
    model = conv_graph()
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Softmax"
    return model


def test_the_command_offers_every_form():
    assert tuple(FORMS) == NAMES


def test_first_layers_are_in_8_bits_only_in_their_form_and_the_normalization_never():
    model = conv_graph()
    assert float_layers(written(model, "standard")) == ["normalize", "first", "head"]
    assert float_layers(written(model, "first-layers")) == ["normalize", "head"]


def test_the_last_layer_is_in_8_bits_only_in_its_forms_and_logits_are_never_rounded():
    model = conv_graph()
    for form in ("all-layers", "all-weighted"):
        graph = written(model, form)
        assert float_layers(graph) == ["normalize"]
        assert [node.op_type for node in graph.node if "logits" in node.output] == ["Gemm"]


def test_the_ungated_form_rounds_sums_and_not_what_gates_make():
    graphs = {form: written(gated_graph(), form) for form in ("ungated", "standard")}
    rounded = {
        form: {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
        for form, graph in graphs.items()
    }
    assert {"gate", "gated"}.isdisjoint(rounded["ungated"])
    assert rounded["ungated"] < rounded["standard"]
    assert "ungated" not in [form.name for form in forms_of(conv_graph().graph)]


def test_weights_only_does_not_round_what_gates_make():
    model = gated_graph()
    rounded = {
        form: {node.input[0] for node in written(model, form).node if node.op_type == "QuantizeLinear"}
        for form in FORMS
    }
    assert {"gate", "gated"} <= rounded["standard"]
    assert {"gate", "gated"}.isdisjoint(rounded["weighted"])
    assert "second" in rounded["weighted"]


@pytest.mark.parametrize("model", [conv_graph(), gated_graph(), attention_graph()], ids=("plain", "gated", "attention"))
@pytest.mark.parametrize("name", ["int8-cpu", "int8-openvino"])
def test_forms_with_the_same_choices_are_the_same_file(name, model):
    choices = {form: choose(model, FLAVORS[name], FORMS[form]) for form in FORMS}
    files = {form: written(model, form, name).SerializeToString() for form in FORMS}
    for form, other in itertools.combinations(FORMS, 2):
        assert choices[form] != choices[other] or files[form] == files[other], (form, other)


def test_of_a_transformer_three_forms_are_written():
    choices = {choose(attention_graph(), FLAVORS["int8-cpu"], form) for form in FORMS.values()}
    assert len(choices) == 3


@pytest.mark.parametrize("form", FORMS)
def test_tensorrt_has_its_own_form(form):
    model = conv_graph()
    assert written(model, form, "int8-tensorrt") == written(model, "standard", "int8-tensorrt")
    assert usual_form(FLAVORS["int8-tensorrt"], model.graph, form) == STANDARD


def test_openvino_gets_gates_in_float_if_nothing_is_timed():
    assert usual_form(FLAVORS["int8-openvino"], gated_graph().graph).name == "weighted"
    assert usual_form(FLAVORS["int8-openvino"], conv_graph().graph) == STANDARD
    assert usual_form(FLAVORS["int8-cpu"], gated_graph().graph) == STANDARD


@dataclass
class File:
    """A file that was compared with FP32."""

    model: onnx.ModelProto
    comparison: Comparison
    findings: Findings


def compared(model, form, lost=0):
    """A file in a form, of whose 100 images some have lost their label."""
    truth = np.zeros(100, int)
    logits = np.tile(np.float32([1, 0]), (100, 1))
    worse = logits.copy()
    worse[:lost] = [0, 1]
    return File(model, compare(("a", "b"), truth, logits, worse), Findings(form=form.name))


def chosen(monkeypatch, times, accepted=lambda file: True):
    """The form that is kept if these times were measured, the trials, and the forms that were evaluated."""
    monkeypatch.setattr(fastest, "time_files", lambda files, *_, **__: [times[path.stem] for _, path in files])
    evaluated = []

    def evaluate(model, form):
        evaluated.append(form.name)
        return compared(model, form)

    def write(form):
        return gated_graph(extra=list(FORMS).index(form.name))

    usual = compared(write(STANDARD), STANDARD)
    best, trials = fastest_form("int8-cpu", usual, write, evaluate, accepted, np.zeros((1, 8, 8, 3), np.float32))
    return best.findings.form, trials, evaluated


TIMES = {
    "standard": 10.0,
    "first-layers": 9.0,
    "weighted": 8.0,
    "ungated": 13.0,
    "all-layers": 12.0,
    "all-weighted": 11.0,
    "all-ungated": 14.0,
}


def test_the_fastest_form_is_kept_and_slower_ones_are_not_evaluated(monkeypatch):
    form, trials, evaluated = chosen(monkeypatch, TIMES)
    assert (form, evaluated) == ("weighted", ["weighted"])
    assert [trial.form for trial in trials] == [
        "weighted",
        "first-layers",
        "standard",
        "all-weighted",
        "all-layers",
        "ungated",
        "all-ungated",
    ]
    assert [trial.form for trial in trials if trial.kept] == ["weighted"]
    assert [trial.form for trial in trials if trial.accuracy is not None] == ["weighted", "standard"]


def test_a_form_that_loses_accuracy_leaves_its_place_to_the_next(monkeypatch):
    form, _, evaluated = chosen(monkeypatch, TIMES, lambda file: file.findings.form != "weighted")
    assert (form, evaluated) == ("first-layers", ["weighted", "first-layers"])
    assert chosen(monkeypatch, TIMES, lambda file: False)[0] == "standard"


def test_a_gain_that_may_be_noise_changes_nothing(monkeypatch):
    form, _, evaluated = chosen(monkeypatch, {**TIMES, "first-layers": 9.9, "weighted": 9.8})
    assert (form, evaluated) == ("standard", [])


def test_forms_that_are_the_same_file_are_one():
    model = conv_graph()
    usual = compared(model, STANDARD)
    never = pytest.fail
    best, trials = fastest_form("int8-cpu", usual, lambda form: model, never, never, np.zeros((1, 8, 8, 3), np.float32))
    assert (best, trials) == (usual, ())


@pytest.mark.parametrize(
    ("lost", "won", "accepted"),
    [
        (0, 0, True),
        (2, 1, True),
        (10, 8, False),  # a drop of 0.4 points, but so many images changed that it may be two
        (8, 0, False),
    ],
)
def test_a_faster_form_is_accepted_only_if_its_interval_leaves_no_doubt(lost, won, accepted):
    truth = np.zeros(500, int)
    right, wrong = np.float32([1, 0]), np.float32([0, 1])
    reference, logits = (np.tile(right, (500, 1)) for _ in range(2))
    logits[:lost] = wrong
    reference[lost : lost + won] = wrong
    found = compare(("a", "b"), truth, reference, logits)
    usual = Candidate(
        model=conv_graph(),
        logits=reference,
        comparison=compare(("a", "b"), truth, reference, reference),
        findings=Findings(),
    )
    form = replace(usual, logits=logits, comparison=found)
    search = Search.__new__(Search)
    vars(search).update(max_drop=0.01, images=truth)
    assert search._accepts("int8-cpu", form, usual) == accepted


@pytest.mark.slow
def test_quantize_times_the_forms_and_the_layers(own_run):
    report = quantize(own_run, QuantizeOptions(size=30, max_drop=0.5, method="minmax", targets=("x86-cpu",)))
    names = {layer.name for layer in find_layers(prepare(own_run / "model.fp32.onnx").graph)}
    for file in report.files:
        if not can_time(file.name):
            continue
        assert len(file.findings.forms) > 1
        assert [trial.form for trial in file.findings.forms if trial.kept] == [file.findings.form]
        assert "int8" in {row.kind for row in file.layer_times}
        assert file.unexpected_float == ()
        weighted = {row.layer for row in file.layer_times if "Conv" in row.operator or "onvolution" in row.operator}
        assert weighted <= names
        assert 0 < sum(row.time_ms for row in file.layer_times) < 20 * file.latency_ms
    page = (own_run / "quantization.html").read_text(encoding="utf-8")
    assert "Time and accuracy" in page
    assert "Slowest layers of int8-cpu" in page
    facts = json.loads((own_run / "quantization.json").read_text())
    assert {trial["form"] for trial in facts["files"][0]["forms"]} <= set(FORMS)


@pytest.mark.slow
def test_a_form_can_be_asked_for(own_run):
    options = QuantizeOptions(size=30, max_drop=0.5, method="minmax", flavors=("int8-cpu",), form="first-layers")
    (file,) = quantize(own_run, options).files
    assert (file.findings.form, file.findings.forms) == ("first-layers", ())
    assert file.conditions.options["form"] == "first-layers"


def test_layers_of_a_file_for_another_machine_are_not_timed(tmp_path):
    model = conv_graph()
    onnx.save(model, tmp_path / "model.onnx")
    assert layer_times("int8-tensorrt", tmp_path / "model.onnx", np.zeros((1, 8, 8, 3), np.float32), {}) == ()
    times = layer_times("fp32", tmp_path / "model.onnx", np.zeros((1, 8, 8, 3), np.float32), {})
    assert {row.kind for row in times} == {"float"}
    assert [row.time_ms for row in times] == sorted((row.time_ms for row in times), reverse=True)
    assert model.opset_import[0].version == OPSET


def test_a_layer_that_its_backend_computes_in_float_although_the_file_has_it_in_8_bits_is_named():
    rows = [
        LayerTime(layer="/stem", operator="Conv", kind="float", time_ms=1.0),
        LayerTime(layer="/block", operator="QLinearConv", kind="int8", time_ms=1.0),
        LayerTime(layer="/branch", operator="FusedConv", kind="float", time_ms=1.0),
        LayerTime(layer="/branch", operator="QuantizeLinear", kind="convert", time_ms=1.0),
        LayerTime(layer="/head", operator="FullyConnected", kind="float", time_ms=1.0),
        LayerTime(layer="/pool", operator="GlobalAveragePool", kind="float", time_ms=1.0),
    ]
    layers = {"/stem", "/block", "/branch", "/head", "/pool"}
    assert unexpected_float(rows, layers, in_float={"/stem"}) == ("/branch", "/head")


def test_products_of_attention_do_not_make_the_layer_before_them_a_float_one_and_none_is_named_twice():
    rows = [
        LayerTime(layer="/qkv", operator="MatMulIntegerToFloat", kind="int8", time_ms=3.0),
        LayerTime(layer="/qkv", operator="MatMul", kind="float", time_ms=2.0),
        LayerTime(layer="/other", operator="MatMul", kind="float", time_ms=1.0),
        LayerTime(layer="/other", operator="MatMul", kind="float", time_ms=1.0),
    ]
    assert unexpected_float(rows, {"/qkv", "/other"}, in_float=()) == ("/other",)
