"""The parts of a board's report; each runs in a child process, and returns JSON types."""

import os
import time
from typing import Callable, Dict, List, Optional, Sequence, Union

from ...bundle.open_bundle import open_bundle
from ...classify.golden import check_golden
from ...classify.selection import open_within
from ...device.machine import cores, is_emulated, machine_facts
from ...device.telemetry import read_telemetry
from ...runners import probe
from ...trt.cuda import PyCuda, RuntimeCuda
from ..bench import bench
from ..doctor.report import doctor

# The first inferences of a process are slow, and a slow machine has no time for many.
MOST_WARMUP = 10
COPIED_BYTES = 16 << 20
_COPIES = 10
_CUDA: Dict[str, Callable[[], Union[RuntimeCuda, PyCuda]]] = {"libcudart": RuntimeCuda, "pycuda": PyCuda}
_OF_ENGINE = ("layer_precisions", "layers", "bytes", "build_s")


def machine(root: str) -> Dict[str, object]:
    """Return the machine's facts, a reading of its sensors, and the load of other programs."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return dict(
        machine_facts(root),
        emulated=is_emulated(root),
        load=None if load is None else round(load / cores(root), 2),
        telemetry=read_telemetry(root).to_dict(),
    )


def findings(root: str) -> Dict[str, object]:
    """Return the doctor's findings about the machine; the bundle's models have parts of their own."""
    return doctor(None, root).to_dict()


def version(backend: str) -> Optional[str]:
    """Return the version of a backend's library, or None if it is not installed."""
    return probe(backend)


def golden(bundle: str, model: str, backend: str) -> Dict[str, object]:
    """Return the result of the golden images on a backend, and what it computes on; of an engine also its layers."""
    opened = open_bundle(bundle)
    found = opened.model(model)
    start = time.monotonic()
    runner = open_within(opened, found, backend)
    open_s = round(time.monotonic() - start, 2)
    report = check_golden(opened, found, runner).to_dict()
    # The process ends here: a library that crashes when it is closed loses nothing.
    engine = {name: runner.facts[name] for name in _OF_ENGINE if name in runner.facts}
    return dict(report, device=runner.device, open_s=open_s, engine=engine or None)


def speed(bundle: str, backend: str, models: Sequence[str], repeat: int, root: str) -> Dict[str, object]:
    """Return the latencies of some models on a backend, stage by stage, with their energy and throttling."""
    report = bench(bundle, repeat, min(repeat, MOST_WARMUP), backend, root=root, models=models).to_dict()
    # The machine has a part of its own, and the percentiles say enough about the samples.
    return {name: value for name, value in report.items() if name not in ("machine", "samples_ms")}


def cuda_memory(kind: str) -> Dict[str, object]:
    """Copy numbers to the GPU and back by one of the two libraries; return whether they came back, and how fast."""
    import numpy as np

    cuda = _CUDA[kind]()
    try:
        given, back = cuda.pinned((COPIED_BYTES // 4,)), cuda.pinned((COPIED_BYTES // 4,))
        address = cuda.allocate(COPIED_BYTES)
        given[...] = np.arange(len(given))
        times: List[List[float]] = []
        for _ in range(_COPIES):
            cuda.mark(0)
            cuda.upload(address, given)
            cuda.mark(1)
            cuda.download(back, address)
            cuda.mark(2)
            cuda.synchronize()
            times.append([cuda.elapsed_ms(0, 1), cuda.elapsed_ms(1, 2)])
        up, down = (_gb_per_s(float(np.median(column))) for column in zip(*times))
        gpu = cuda.device
        return {
            "gpu": gpu.name,
            "capability": "{}.{}".format(*gpu.capability),
            "total_mb": round(gpu.total_bytes / 1e6),
            "free_mb": round(gpu.free_bytes / 1e6),
            "integrated": gpu.integrated,
            "equal": bool((given == back).all()),
            "to_gpu_gb_per_s": up,
            "from_gpu_gb_per_s": down,
        }
    finally:
        cuda.close()


def _gb_per_s(milliseconds: float) -> Optional[float]:
    return round(COPIED_BYTES / 1e6 / milliseconds, 2) if milliseconds > 0 else None
