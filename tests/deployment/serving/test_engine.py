"""Requests that wait: the queue, what is inferred together, and the counts of it all."""

import http.client
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgeclf.deployment.serving import engine, models
from edgeclf.deployment.serving.models import open_served
from edgeclf_runtime.runners.base import Outputs, Runner
from tests.support.waiting import wait_until


class Held(Runner):
    """A backend that infers only after ``go`` was set; ``sizes`` has the size of each batch, ``entered`` says that one came."""

    backend = title = "held"
    concurrent = True

    def __init__(self):
        self.go, self.entered, self.sizes = threading.Event(), threading.Event(), []

    def _infer(self, batch):
        self.sizes.append(len(batch))
        self.entered.set()
        assert self.go.wait(30)
        logits = np.zeros((len(batch), 3), np.float32)
        logits[np.arange(len(batch)), (batch[:, 0, 0, 0] // 100).astype(int)] = 9
        return Outputs(logits)


@pytest.fixture
def held():
    """A Held, which is let go at the end."""
    runner = Held()
    yield runner
    runner.go.set()


def gray_png(value):
    import cv2

    return cv2.imencode(".png", np.full((64, 64), value, np.uint8))[1].tobytes()


def figure(client, name):
    """The figure of a metric, by its name and labels."""
    text = client.get("/metrics")[2].decode()
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_a_full_queue_is_an_answer_that_says_when_to_come_again(serve_runner, held, image):
    client = serve_runner(held, queue=1)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/classify", image)
        assert held.entered.wait(30)
        second = pool.submit(client.post, "/classify", image)
        wait_until(lambda: figure(client, "edgeclf_queue_length") == 1)
        status, headers, answer = client.post("/classify", image)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert answer["error"] == "1 requests are waiting, and no more are taken; try again in a second"
        assert client.get("/v2/health/live")[0] == 200
        held.go.set()
        assert [one.result()[0] for one in (first, second)] == [200, 200]


def test_the_queue_stays_short_while_requests_are_refused(serve_runner, held, image, monkeypatch):
    """A full queue would make every answer late, for as long as more comes than can be done."""
    client = serve_runner(held, queue=2)
    monkeypatch.setattr(engine, "CALM_S", 1000.0)

    def wait_for(number):
        wait_until(lambda: figure(client, "edgeclf_queue_length") == number)

    def fill(pool, number):
        held.go.clear()
        held.entered.clear()
        jobs = [pool.submit(client.post, "/classify", image)]
        assert held.entered.wait(30)
        for waiting in range(1, number + 1):
            jobs.append(pool.submit(client.post, "/classify", image))
            wait_for(waiting)
        return jobs

    def finish(jobs):
        held.go.set()
        assert [one.result()[0] for one in jobs] == [200] * len(jobs)

    with ThreadPoolExecutor(4) as pool:
        jobs = fill(pool, 2)  # a burst
        assert client.post("/classify", image)[0] == 503
        finish(jobs)
        jobs = fill(pool, 1)
        assert client.post("/classify", image)[0] == 503
        monkeypatch.setattr(engine, "CALM_S", 0.0)
        jobs.append(pool.submit(client.post, "/classify", image))
        wait_for(2)
        finish(jobs)


@pytest.mark.parametrize(("joined", "sizes"), [(1, [1, 1, 1, 1, 1]), (3, [1, 3, 1])])
def test_requests_that_wait_are_inferred_together_if_that_is_faster(serve_runner, held, image, joined, sizes):
    client = serve_runner(held, queue=9, most=8, joined=joined)
    values = (0, 100, 200, 100, 0)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(client.post, "/classify", gray_png(values[0]))]
        assert held.entered.wait(30)
        for number, value in enumerate(values[1:], 1):
            answers.append(pool.submit(client.post, "/classify", gray_png(value)))
            wait_until(lambda number=number: figure(client, "edgeclf_queue_length") == number)
        held.go.set()
        labels = [one.result()[2]["label"] for one in answers]
    assert held.sizes == sizes
    assert labels == [("3", "5", "8")[value // 100] for value in values]


def test_a_damaged_image_costs_its_neighbors_nothing(serve_runner, held, image):
    client = serve_runner(held, queue=9, most=8, joined=8)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, "/classify", image)]
        assert held.entered.wait(30)
        for number, data in enumerate((b"damaged", image), 1):
            answers.append(pool.submit(client.post, "/classify", data))
            wait_until(lambda number=number: figure(client, "edgeclf_queue_length") == number)
        held.go.set()
        assert [one.result()[0] for one in answers] == [200, 400, 200]
    assert held.sizes == [1, 1]


def test_each_thread_takes_its_share_of_the_queue(serve_runner, held, image):
    client = serve_runner(held, threads=2, queue=9, most=8, joined=8)
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(client.post, "/classify", image) for _ in range(2)]
        wait_until(lambda: len(held.sizes) == 2)
        answers += [pool.submit(client.post, "/classify", image) for _ in range(4)]
        wait_until(lambda: figure(client, "edgeclf_queue_length") == 4)
        held.go.set()
        assert [one.result()[0] for one in answers] == [200] * 6
    # Of four, half; of the two that are left, half; the last.  Whose batch is inferred first is chance.
    assert sorted(held.sizes[2:]) == [1, 1, 2]


def test_an_image_whose_client_is_gone_is_not_classified(serve_runner, held, image):
    client = serve_runner(held, queue=9)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/classify", image)
        assert held.entered.wait(30)
        impatient = http.client.HTTPConnection(client.host)
        impatient.request("POST", "/classify", image)
        wait_until(lambda: figure(client, "edgeclf_queue_length") == 1)
        impatient.close()
        wait_until(lambda: figure(client, 'edgeclf_requests_total{path="/classify",status="499"}') == 1)
        last = pool.submit(client.post, "/classify", image)
        wait_until(lambda: figure(client, "edgeclf_queue_length") == 2)
        held.go.set()
        assert [one.result()[0] for one in (first, last)] == [200, 200]
    assert len(held.sizes) == 2


def test_a_server_whose_inference_hangs_is_not_ready(serve_runner, held, image, monkeypatch):
    monkeypatch.setattr(engine, "STUCK_S", 0.0)
    client = serve_runner(held, queue=9)
    assert client.get("/v2/health/ready")[0] == 200
    with ThreadPoolExecutor(2) as pool:
        pool.submit(client.post, "/classify", image)
        assert held.entered.wait(30)
        pool.submit(client.post, "/classify", image)
        wait_until(lambda: figure(client, "edgeclf_queue_length") == 1)
        status, _, answer = client.get("/v2/health/ready")
        assert (status, "an inference may hang" in answer["error"]) == (503, True)
        assert client.get("/v2/health/live")[0] == 200
        held.go.set()


class Timed(Runner):
    """A backend that says by itself how long it takes: whether batches pay off must not depend on this machine."""

    backend = title = "timed"

    def __init__(self, clock, call, image, most=99):
        self.clock, self.call, self.image, self.most = clock, call, image, most

    def _infer(self, batch):
        if len(batch) > self.most:
            raise ValueError("Got: 4 Expected: 1")
        self.clock[0] += self.call + self.image * len(batch)
        return Outputs(np.zeros((len(batch), 3), np.float32))


@pytest.mark.parametrize(
    ("call", "image", "most", "expected"),
    [(1.0, 0.1, 99, (8, 8)), (0.01, 1.0, 99, (8, 1)), (1.0, 0.1, 1, (1, 1))],
    ids=["faster", "no faster", "refused"],
)
def test_a_trial_decides_whether_requests_are_joined(monkeypatch, bundle, call, image, most, expected):
    from edgeclf_runtime.classify.classifier import Classifier
    from edgeclf_runtime.images.preprocess import Preprocessing

    clock = [0.0]
    monkeypatch.setattr(models.time, "perf_counter", lambda: clock[0])
    opened = Classifier(Timed(clock, call, image, most), ["3", "5", "8"], Preprocessing(64, 64))
    monkeypatch.setattr(models.Classifier, "open", lambda *_, **__: opened)
    served = open_served("it", bundle, 5, 1)
    assert (served.most, served.joined) == expected


def test_the_counts_are_those_of_the_requests(serve_runner, held, image):
    held.go.set()
    client = serve_runner(held)
    for path, data in (("/classify", image), ("/classify", gray_png(100)), ("/classify", b"x"), ("/nonsense", b"")):
        client.post(path, data)
    assert figure(client, 'edgeclf_requests_total{path="/classify",status="200"}') == 2
    assert figure(client, 'edgeclf_requests_total{path="/classify",status="400"}') == 1
    assert figure(client, 'edgeclf_requests_total{path="other",status="404"}') == 1
    assert figure(client, 'edgeclf_results_total{model="it",label="5",rejected="no"}') == 1
    for stage, count in (("read", 3), ("wait", 3), ("decode", 2), ("preprocess", 2), ("inference", 2)):
        assert figure(client, f'edgeclf_stage_seconds_count{{model="it",stage="{stage}"}}') == count
    assert figure(client, "edgeclf_queue_limit") == 1
    assert figure(client, 'edgeclf_model_info{model="it",version="1",file="",backend="held"}') == 1


def test_the_metrics_are_in_prometheus_format(client):
    status, headers, text = client.get("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text.decode(), re.MULTILINE))
    samples = [line for line in text.decode().splitlines() if not line.startswith("#")]
    form = re.compile(r'([a-z_]+)(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[\d.e+-]+')
    assert [line for line in samples if not form.fullmatch(line)] == []
    assert {form.fullmatch(line).group(1).removesuffix("_sum").removesuffix("_count") for line in samples} <= set(kinds)
