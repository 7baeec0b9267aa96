"""Measures whether a first start chooses the fastest way to run a bundle.

    python3 benchmarks/speed/first_start.py NAME.edge [--starts 20] [--rounds 20] [--json]

Method: ``run`` on a generated camera is started with an empty cache, so that it measures and remembers.  Right after, every
candidate (each model on each backend with each number of threads) is measured in a process of its own, in turns
(``rounds.py``); its time is the median of its turns' medians.  After three turns those that are half as slow again as the fastest
are left out, except for the choice.  The start is good if the time of its choice is at most 5 % above that of the fastest
candidate.  The fastest of many noisy times is lower than it should be, so noise counts against the choice: see how much of the
processors other programs took.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rounds import Contender, others, others_line, serve, take_turns, time_steps

import edgeclf_runtime
from edgeclf_runtime.bundle.open_bundle import Bundle, open_bundle
from edgeclf_runtime.classify.golden import golden_images
from edgeclf_runtime.classify.selection import candidates
from edgeclf_runtime.classify.tuning.candidate import Candidate, variants
from edgeclf_runtime.classify.tuning.choice import NO_TUNE, choose
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.runners import open_runner

GOOD = 1.05
TURN_S, WARM_UP_S = 0.1, 0.05
FIRST_ROUNDS, FAR = 3, 1.5


def main() -> None:
    """Start so often, and print how many starts were good."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20, help="turns of each candidate after each start")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    found = variants(candidates(bundle))
    if arguments.serve is not None:
        serve(lambda: make(bundle, found[arguments.serve]))
        return
    with contextlib.ExitStack() as stack:
        contenders = {}
        for number, one in enumerate(found):
            command = [sys.executable, __file__, arguments.bundle, "--serve", str(number)]
            contenders[one.name] = stack.enter_context(Contender(command, one.threads or os.cpu_count() or 1))
        able = {name: contender for name, contender in contenders.items() if not contender.reason}
        starts = [measure_start(bundle, able, arguments) for _ in range(arguments.starts)]
    good = sum(start["ratio"] <= GOOD for start in starts)
    report = {"starts": starts, "good": good, "candidates": list(able), "machine": machine_facts()}
    print(json.dumps(report) if arguments.json else f"{good} of {len(starts)} within {GOOD - 1:.0%} of the fastest")


def make(bundle: Bundle, one: Candidate):
    """Return what takes a turn of a candidate, and no facts."""
    runner = open_runner(one.backend, bundle.file(one.model.file), one.threads)
    batch = as_batch([preprocess(golden_images(bundle)[0], bundle.preprocessing)])

    def turn(seconds: float) -> dict[str, float]:
        return {"ms": statistics.median(time_steps(lambda: runner.infer(batch), seconds, WARM_UP_S))}

    return turn, {}


def measure_start(bundle: Bundle, contenders: dict[str, Contender], arguments: argparse.Namespace) -> dict[str, object]:
    """Start once with an empty cache, and compare its choice with every candidate."""
    with tempfile.TemporaryDirectory() as cache:
        begin = time.perf_counter()
        start(bundle, cache)
        seconds = time.perf_counter() - begin
        chosen = chosen_in(bundle, cache)
    first = median_ms(take_turns(contenders, FIRST_ROUNDS, {"seconds": TURN_S}, patience_s=0.0))
    near = {name: contenders[name] for name in first if first[name] < FAR * min(first.values()) or name == chosen}
    answers = take_turns(near, arguments.rounds, {"seconds": TURN_S}, patience_s=0.0)
    ms = median_ms(answers)
    fastest = min(ms, key=ms.__getitem__)
    ratio = round(ms[chosen] / ms[fastest], 3)
    print(
        f"{chosen}: {ms[chosen]:.2f} ms; fastest: {fastest}: {ms[fastest]:.2f} ms; ratio {ratio:.3f}; "
        f"started in {seconds:.1f} s; {others_line(others(answers))}",
        file=sys.stderr,
    )
    return {"chosen": chosen, "fastest": fastest, "ratio": ratio, "seconds": round(seconds, 2), "ms": ms}


def median_ms(answers: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Return the median of each contender's turns in milliseconds."""
    return {name: round(statistics.median(answer["ms"] for answer in turns), 3) for name, turns in answers.items()}


def start(bundle: Bundle, cache: str) -> None:
    """Run a bundle on one frame, as a first start does."""
    environment = {name: value for name, value in os.environ.items() if name != NO_TUNE}
    environment.update(XDG_CACHE_HOME=cache, PYTHONPATH=str(Path(edgeclf_runtime.__file__).parents[1]))
    command = [sys.executable, "-m", "edgeclf_runtime", "run", bundle.path, "--source", "test://", "--frames", "1"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def chosen_in(bundle: Bundle, cache: str) -> str:
    """Return the name of the candidate that a cache remembers as the fastest."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = cache
    try:
        choice = choose(bundle, candidates(bundle))
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
    if not choice.measured:
        raise SystemExit("the start remembered nothing; see its messages above")
    model, backend = choice.pairs[0]
    return Candidate(model, backend, *choice.ways[f"{model.name} on {backend}"]).name


if __name__ == "__main__":
    main()
