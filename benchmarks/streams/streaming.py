"""Measures whether a camera's classification keeps up with the bare model, and how old a frame is when its label is known.

    python3 benchmarks/streams/streaming.py NAME.edge

Method: generated 1280 x 720 frames (``test://``, captured in a process of their own as a camera's are), and one thread
for the backend, so that capture and preprocessing have a core to themselves.  A machine's speed drifts, so four things
take turns of a second or two, in one process:
  bare      ``InferenceSession.run`` on one frame's input, over and over
  keep up   ``run``'s loop on a camera that is a fifth faster than bare, each label written to a file as a line of JSON:
            frames classified a second, against bare of the same round
  overload  the same on a camera of twice the rate that ``keep up`` reached: ages of the frames at their label
  live      the same on a camera of 30 frames a second, with as many threads as the backend takes by itself
The ratio is the median over the rounds.  The 99th percentile of the ages of all rounds is held against two frame
intervals plus the 99th percentile of inference of the same frames.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time

import numpy as np

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.streaming.stream import stream

WIDTH, HEIGHT = 1280, 720
_WARM_UP_S = 0.5
_LIVE_FPS = 30


def main():
    """Run the rounds and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="each one's turn in a round (2)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    session = open_session(bundle, arguments.model, arguments.threads)
    rounds = []
    choice = (bundle, arguments.model, "onnxruntime")
    with Classifier.open(*choice, threads=arguments.threads) as classifier, Classifier.open(*choice) as unlimited:
        batch = classifier.prepare(np.random.RandomState(0).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        for number in range(arguments.rounds):
            rounds.append(one_round(session, batch, classifier, unlimited, arguments.seconds))
            print("round {}: {:.3f} of bare".format(number + 1, rounds[-1]["ratio"]), file=sys.stderr)
    figures = summarise(rounds)
    if arguments.json:
        print(json.dumps(dict(figures, machine=machine_facts())))
        return
    print("bare                 {bare_fps:.1f} frames a second".format(**figures))
    print("a camera, classified {stream_fps:.1f} frames a second, {ratio:.3f} of bare".format(**figures))
    print("at 30 a second       age at the label p50 {live_p50_ms:.1f} ms, p99 {live_p99_ms:.1f} ms".format(**figures))
    print(
        "at twice that rate   age at the label p50 {age_p50_ms:.1f} ms, p99 {age_p99_ms:.1f} ms; "
        "two intervals and p99 inference are {bound_ms:.1f} ms".format(**figures)
    )


def open_session(bundle, model, threads):
    """Return a bare session of a bundle's model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(
        bundle.file(bundle.model(model).file), options, providers=["CPUExecutionProvider"]
    )


def one_round(session, batch, classifier, unlimited, seconds):
    """Let each take a turn; returns their figures, ages and inference times in ms."""
    bare_fps = len(repeat(lambda: session.run(None, {"image": batch}), seconds)) / seconds
    kept = classify_camera(classifier, 1.2 * bare_fps, seconds)
    fps = len(kept) / seconds
    overload = classify_camera(classifier, 2 * fps, seconds)
    live = classify_camera(unlimited, _LIVE_FPS, seconds)
    return {
        "bare_fps": bare_fps,
        "stream_fps": fps,
        "ratio": fps / bare_fps,
        "ages_ms": [item.age_ms for item in overload],
        "lives_ms": [item.age_ms for item in live],
        "inferences_ms": [item.result.timings_ms["inference"] for item in overload],
    }


def classify_camera(classifier, fps, seconds):
    """Classify a generated camera, and write the labels; returns what the stream gave after a warm-up."""
    with contextlib.ExitStack() as stack:
        camera = stack.enter_context(open_camera("test://", WIDTH, HEIGHT, fps))
        lines = stack.enter_context(tempfile.TemporaryFile("w"))
        items = stack.enter_context(contextlib.closing(stream(classifier, camera)))

        def write_next():
            item = next(items)
            print(item.to_json(), file=lines, flush=True)
            return item

        return repeat(write_next, seconds)


def repeat(step, seconds):
    """Call ``step`` until the time has come, after a warm-up that does not count; returns what it gave."""
    end = time.monotonic() + _WARM_UP_S
    while time.monotonic() < end:
        step()
    end, given = time.monotonic() + seconds, []
    while time.monotonic() < end:
        given.append(step())
    return given


def summarise(rounds):
    """Return the medians over the rounds, and the percentiles over the frames of all."""
    figures = {name: float(np.median([row[name] for row in rounds])) for name in ("bare_fps", "stream_fps", "ratio")}
    for name in ("age", "live", "inference"):
        samples = np.concatenate([row[name + "s_ms"] for row in rounds])
        figures.update({f"{name}_p{p}_ms": float(np.percentile(samples, p)) for p in (50, 90, 99)})
    figures["bound_ms"] = 2e3 / (2 * figures["stream_fps"]) + figures["inference_p99_ms"]
    ratios = [round(row["ratio"], 3) for row in rounds]
    return dict({name: round(value, 3) for name, value in figures.items()}, ratios=ratios)


if __name__ == "__main__":
    main()
