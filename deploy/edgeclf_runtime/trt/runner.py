"""Runs models with TensorRT, 8.0 to 11, on an NVIDIA GPU.

The engine comes from ``trt/engine.py``, which builds it on this device the first time that a model is opened.
"""

import logging
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple, Union

from ..errors import BackendError
from ..runners.base import FEATURES, Outputs, Runner, close_quietly, joined
from . import engine_cache
from .cuda import find_device, open_cuda
from .cudart import Graph
from .engine import ensure_engine
from .engine_cache import Engine
from .inspector import count_precisions, layer_precisions
from .network import make_logger
from .versions import has, load_tensorrt, version_of

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np

    from ..files.schema import JsonObject
    from ..runners.base import ModelPath
    from .cuda import PyCuda, RuntimeCuda
    from .inspector import CudaEngine, ExecutionContext

_INPUT, _OUTPUT, _FEATURES = 0, 1, 2
_log = logging.getLogger(__name__)
# Marks of the stream's progress, between which copying is timed.
_BEGIN, _UPLOADED, _INFERRED, _DOWNLOADED = range(4)


def version() -> str:
    """Return TensorRT's version; raises ImportError if it cannot be used."""
    try:
        return str(load_tensorrt().__version__)
    except BackendError as error:
        raise ImportError(str(error))


def prepare(model_path: "ModelPath") -> None:
    """Build a model's engine if there is none yet; raises BackendError like TensorRtRunner."""
    load_tensorrt()
    ensure_engine(model_path, find_device())


class TensorRtRunner(Runner):
    """A model on TensorRT; ``threads`` has no effect.

    transfer_ms     time of the last inference that was spent on copies to and from the GPU
    facts           contents of the JSON file beside the engine
    """

    backend = "tensorrt"
    title = "TensorRT"
    device = "cuda"

    def _load(self, model_path: "ModelPath", threads: Optional[int]) -> None:
        trt = load_tensorrt()
        self.version = trt.__version__
        self.transfer_ms = 0.0
        self._engine: "Optional[CudaEngine]" = None
        self._runtime: Any = None
        # NamedTensors or Bindings.  No local variable may hold it: the traceback of an error would keep the context alive
        # beyond its engine.
        self._calls: Any = None
        self._arrays: "List[np.ndarray]" = []
        self._addresses: List[int] = []
        self._shape: Optional[Tuple[int, ...]] = None
        self._graph: Optional[Graph] = None
        self._records = True
        self._logger = make_logger(trt)
        # CUDA is opened after the build, which needs the board's memory until then.
        engine = ensure_engine(model_path, find_device())
        self._cuda: "Union[RuntimeCuda, PyCuda]" = open_cuda()
        try:
            self._open(trt, engine)
        except BaseException:
            close_quietly(self)
            raise

    def _open(self, trt: "ModuleType", engine: Engine) -> None:
        self.facts, spec = engine.facts, engine.spec
        if self.facts.get("plugins", True):
            trt.init_libnvinfer_plugins(self._logger, "")
        self._runtime = trt.Runtime(self._logger)
        if spec.dla is not None:
            self._runtime.DLA_core = spec.dla
        if spec.version_compatible:
            # Such an engine contains code, which TensorRT runs only with permission; this one was built here.
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise self._failed("cannot load the engine; build it again: build --retry")
        if "layers" not in self.facts:
            layers = layer_precisions(trt, self._engine)
            found: JsonObject = {"layers": layers, "layer_precisions": count_precisions(layers) or "unknown"}
            self.facts = engine_cache.add_facts(engine.folder, spec, **found) or dict(self.facts, **found)
        calls = NamedTensors if has(version_of(trt), "named tensors") else Bindings
        self._calls = calls(trt, self._engine)
        self._max_batch = spec.max_batch
        shapes = [(self._max_batch,) + tuple(shape)[1:] for shape in self._calls.shapes]
        self._arrays = [self._cuda.pinned(shape) for shape in shapes]
        self._addresses = [self._cuda.allocate(array.nbytes) for array in self._arrays]
        self._calls.use(self._addresses)

    def _infer(self, batch: "np.ndarray") -> Outputs:
        if batch.shape[1:] != self._arrays[_INPUT].shape[1:]:
            raise BackendError(
                "the batch has shape {}; the model expects {}".format(
                    list(batch.shape), [-1, *self._arrays[_INPUT].shape[1:]]
                )
            )
        self.transfer_ms = 0.0
        parts = [batch[start : start + self._max_batch] for start in range(0, len(batch), self._max_batch)]
        return joined([self._infer_part(part) for part in parts])

    def _infer_part(self, batch: "np.ndarray") -> Outputs:
        images, *outputs = (array[: len(batch)] for array in self._arrays)
        images[...] = batch
        cuda = self._cuda
        cuda.mark(_BEGIN)
        cuda.upload(self._addresses[_INPUT], images)
        cuda.mark(_UPLOADED)
        if not self._start(batch.shape):
            raise self._failed("failed on a batch of shape {}".format(list(batch.shape)))
        cuda.mark(_INFERRED)
        for array, address in zip(outputs, self._addresses[_OUTPUT:]):
            cuda.download(array, address)
        cuda.mark(_DOWNLOADED)
        cuda.synchronize()
        copying_ms = cuda.elapsed_ms(_BEGIN, _UPLOADED) + cuda.elapsed_ms(_INFERRED, _DOWNLOADED)
        self.transfer_ms = (self.transfer_ms or 0.0) + copying_ms
        return Outputs(*[array.copy() for array in outputs])

    def _start(self, shape: Tuple[int, ...]) -> bool:
        """Start the inference of a batch of a shape; returns whether TensorRT accepted it.

        From the second batch of the same shape on, its launches are a graph: one call instead of some hundred, which
        saves much time on a board's processor.  A graph is valid for one shape of the context, and TensorRT needs one
        inference of that shape before it can be recorded.
        """
        stream = self._cuda.stream
        if shape != self._shape:
            self._drop_graph()
            self._shape = None
            if not (self._calls.set_shape(shape) and self._calls.enqueue(stream)):
                return False
            self._shape = shape
            return True
        if self._graph is None and self._records:
            try:
                self._graph = self._cuda.record(lambda: bool(self._calls.enqueue(stream)))
            except BackendError as error:
                self._records = False
                _log.info("no CUDA graph is used; every inference is launched call by call: %s", error)
        if self._graph is None:
            return bool(self._calls.enqueue(stream))
        self._graph.launch()
        return True

    def _drop_graph(self) -> None:
        if self._graph:
            self._graph.close()
        self._graph = None

    def _failed(self, what: str) -> BackendError:
        return BackendError(
            "TensorRT {}: {}".format(what, "; ".join(self._logger.errors[-5:]) or self._logger.no_errors)
        )

    def _free(self) -> None:
        # Each needs those after it: graph, context, engine, runtime, memory; and no array may outlive its memory.
        self._drop_graph()
        self._calls = None
        self._engine = None
        self._runtime = None
        self._arrays = []
        self._cuda.close()


class NamedTensors:
    """Calls an engine with TensorRT 8.5 and later.

    shapes      of input, logits and, if there are any, features, with -1 for the batch
    """

    def __init__(self, trt: "ModuleType", engine: "CudaEngine") -> None:
        every = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [name for name in every if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        names = sorted(every, key=lambda name: (name not in inputs, name == FEATURES))
        _check(trt, names, [engine.get_tensor_dtype(name) for name in names])
        self.shapes: List[Sequence[int]] = [engine.get_tensor_shape(name) for name in names]
        self._names = names
        self._context = _context(engine)

    def use(self, addresses: List[int]) -> None:
        """Use these addresses for input and outputs."""
        for name, address in zip(self._names, addresses):
            self._context.set_tensor_address(name, address)

    def set_shape(self, shape: Tuple[int, ...]) -> bool:
        """Set the shape of the batches; returns whether the engine accepts it."""
        return bool(self._context.set_input_shape(self._names[_INPUT], shape))

    def enqueue(self, stream: int) -> bool:
        """Start an inference; returns whether TensorRT accepted it."""
        return bool(self._context.execute_async_v3(stream))


class Bindings:
    """Calls an engine with TensorRT before 8.5; see NamedTensors."""

    def __init__(self, trt: "ModuleType", engine: "CudaEngine") -> None:
        every = [engine.get_binding_name(i) for i in range(engine.num_bindings)]
        self._order = sorted(range(len(every)), key=lambda i: (not engine.binding_is_input(i), every[i] == FEATURES))
        names = [every[i] for i in self._order]
        _check(trt, names, [engine.get_binding_dtype(i) for i in self._order])
        self.shapes: List[Sequence[int]] = [engine.get_binding_shape(i) for i in self._order]
        self._addresses = [0] * len(names)
        self._context = _context(engine)

    def use(self, addresses: List[int]) -> None:
        for index, address in zip(self._order, addresses):
            self._addresses[index] = address

    def set_shape(self, shape: Tuple[int, ...]) -> bool:
        return bool(self._context.set_binding_shape(self._order[_INPUT], shape))

    def enqueue(self, stream: int) -> bool:
        return bool(self._context.execute_async_v2(self._addresses, stream))


def _check(trt: "ModuleType", names: List[str], types: "Sequence[object]") -> None:
    if len(names) not in (2, 3) or FEATURES in names[:_FEATURES] or any(kind != trt.DataType.FLOAT for kind in types):
        raise BackendError(
            "the engine's inputs and outputs are {}; one input, logits and perhaps features, each float32, were expected: make the "
            "bundle again".format(", ".join("{} ({})".format(*pair) for pair in zip(names, types)))
        )


def _context(engine: "CudaEngine") -> "ExecutionContext":
    context = engine.create_execution_context()
    if context is None:
        raise BackendError(
            "there is not enough memory for the engine; end other programs, or use another backend with --backend"
        )
    return context
