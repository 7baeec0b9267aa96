"""TensorRT, 8.0 to 11, on an NVIDIA GPU: FP16 and INT8 where the model has them.

The engine is made by ``trt/engine.py``, on this device, the first time that a model is opened.
"""

import logging
from typing import Any, Dict

from ..errors import BackendError
from ..runners.base import Runner, close_quietly
from . import cache
from .cuda import find_device, open_cuda
from .engine import ensure_engine
from .inspector import count_precisions, layer_precisions
from .network import make_logger
from .versions import has, load_tensorrt, version_of

_INPUT, _OUTPUT = 0, 1
_log = logging.getLogger(__name__)
# What the stream has come to, for the time that copying takes.
_BEGIN, _UPLOADED, _INFERRED, _DOWNLOADED = range(4)


def version():
    """Return TensorRT's version."""
    try:
        return load_tensorrt().__version__
    except BackendError as error:
        raise ImportError(str(error))


def prepare(model_path):
    """Build a model's engine if there is none yet; raises BackendError as TensorRtRunner does."""
    load_tensorrt()
    ensure_engine(model_path, find_device())


class TensorRtRunner(Runner):
    """A model on TensorRT.

    threads         of no meaning here

    transfer_ms     what copying to and from the GPU took of the last inference
    facts           what is kept beside the engine
    """

    backend = "tensorrt"
    title = "TensorRT"
    device = "cuda"

    def _load(self, model_path, threads):
        trt = load_tensorrt()
        self.version = trt.__version__
        self.transfer_ms = 0.0
        self.facts: Dict[str, Any] = {}
        self._engine: Any = None
        self._runtime: Any = None
        self._calls: Any = None
        self._arrays: Any = ()
        self._shape: Any = None
        self._graph: Any = None
        self._records = True
        self._logger = make_logger(trt)
        # CUDA is opened after the build: a board's memory is the build's until then.
        engine = ensure_engine(model_path, find_device())
        self._cuda = open_cuda()
        try:
            self._open(trt, engine)
        except BaseException:
            close_quietly(self)
            raise

    def _open(self, trt, engine):
        self.facts, key = engine.facts, engine.facts["key"]
        if self.facts.get("plugins", True):
            trt.init_libnvinfer_plugins(self._logger, "")
        self._runtime = trt.Runtime(self._logger)
        if key["dla"] is not None:
            self._runtime.DLA_core = key["dla"]
        if key["version_compatible"]:
            # Such an engine brings code of its own, which TensorRT runs if it is told to; this one was built here.
            self._runtime.engine_host_code_allowed = True
        self._engine = self._runtime.deserialize_cuda_engine(engine.plan)
        if self._engine is None:
            raise self._failed("cannot load the engine; build it again: build --retry")
        if "layers" not in self.facts:
            layers = layer_precisions(trt, self._engine)
            told = {"layers": layers, "layer_precisions": count_precisions(layers) or "unknown"}
            self.facts = cache.add_facts(engine.folder, key, **told) or dict(self.facts, **told)
        calls = NamedTensors if has(version_of(trt), "named tensors") else Bindings
        self._calls = calls(trt, self._engine)
        self._most = key["max_batch"]
        shapes = [(self._most,) + tuple(shape)[1:] for shape in self._calls.shapes]
        self._arrays = [self._cuda.pinned(shape) for shape in shapes]
        self._addresses = [self._cuda.allocate(array.nbytes) for array in self._arrays]
        self._calls.use(self._addresses)

    def _infer(self, batch):
        import numpy as np

        if batch.shape[1:] != self._arrays[_INPUT].shape[1:]:
            raise BackendError(
                "a batch of shape {} was given, the model's is {}".format(
                    list(batch.shape), [-1, *self._arrays[_INPUT].shape[1:]]
                )
            )
        self.transfer_ms = 0.0
        parts = [batch[start : start + self._most] for start in range(0, len(batch), self._most)]
        return np.concatenate([self._infer_part(part) for part in parts])

    def _infer_part(self, batch):
        given, answer = (array[: len(batch)] for array in self._arrays)
        given[...] = batch
        cuda = self._cuda
        cuda.mark(_BEGIN)
        cuda.upload(self._addresses[_INPUT], given)
        cuda.mark(_UPLOADED)
        if not self._begin(batch.shape):
            raise self._failed("failed on a batch of shape {}".format(list(batch.shape)))
        cuda.mark(_INFERRED)
        cuda.download(answer, self._addresses[_OUTPUT])
        cuda.mark(_DOWNLOADED)
        cuda.synchronize()
        self.transfer_ms += cuda.elapsed_ms(_BEGIN, _UPLOADED) + cuda.elapsed_ms(_INFERRED, _DOWNLOADED)
        return answer.copy()

    def _begin(self, shape):
        """Begin the inference of a batch of that shape; returns whether it was begun.

        From the second batch of the same shape on its launches are a graph: one call for some
        hundred, which is much on a board's processor.  A graph holds for one shape of the
        context, and TensorRT wants one inference of that shape before it is recorded.
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
                self._graph = self._cuda.record(lambda: self._calls.enqueue(stream))
            except BackendError as error:
                self._records = False
                _log.info("no CUDA graph is used, each inference is launched anew: %s", error)
        if self._graph is None:
            return self._calls.enqueue(stream)
        self._graph.launch()
        return True

    def _drop_graph(self):
        if self._graph:
            self._graph.close()
        self._graph = None

    def _failed(self, what):
        return BackendError(
            "TensorRT {}: {}".format(what, "; ".join(self._logger.errors[-5:]) or self._logger.no_errors)
        )

    def _free(self):
        # Each needs those after it: graph, context, engine, runtime, memory; and no array may outlive its memory.
        self._drop_graph()
        self._calls = None
        self._engine = None
        self._runtime = None
        self._arrays = ()
        self._cuda.close()


class NamedTensors:
    """How an engine is called from TensorRT 8.5 on.

    shapes      of input and output, -1 where the batch is
    """

    def __init__(self, trt, engine):
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        names.sort(key=lambda name: engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
        _check(trt, names, [engine.get_tensor_dtype(name) for name in names])
        self.shapes = [engine.get_tensor_shape(name) for name in names]
        self._names = names
        self._context = _context(engine)

    def use(self, addresses):
        """Take input and output from these addresses."""
        for name, address in zip(self._names, addresses):
            self._context.set_tensor_address(name, address)

    def set_shape(self, shape):
        """Expect batches of that shape; returns whether the engine takes it."""
        return self._context.set_input_shape(self._names[_INPUT], shape)

    def enqueue(self, stream):
        """Begin an inference; returns whether it was begun."""
        return self._context.execute_async_v3(stream)


class Bindings:
    """How an engine is called before TensorRT 8.5; see NamedTensors."""

    def __init__(self, trt, engine):
        self._order = sorted(range(engine.num_bindings), key=lambda i: not engine.binding_is_input(i))
        names = [engine.get_binding_name(i) for i in self._order]
        _check(trt, names, [engine.get_binding_dtype(i) for i in self._order])
        self.shapes = [engine.get_binding_shape(i) for i in self._order]
        self._addresses = [0] * len(names)
        self._context = _context(engine)

    def use(self, addresses):
        for place, address in zip(self._order, addresses):
            self._addresses[place] = address

    def set_shape(self, shape):
        return self._context.set_binding_shape(self._order[_INPUT], shape)

    def enqueue(self, stream):
        return self._context.execute_async_v2(self._addresses, stream)


def _check(trt, names, types):
    if len(names) != 2 or any(kind != trt.DataType.FLOAT for kind in types):
        raise BackendError(
            "the engine's inputs and outputs are {}, one float32 input and one float32 output were expected; make the "
            "bundle again".format(", ".join("{} ({})".format(*pair) for pair in zip(names, types)))
        )


def _context(engine):
    context = engine.create_execution_context()
    if context is None:
        raise BackendError(
            "TensorRT has no memory left for the engine; end other programs, or use another backend with --backend"
        )
    return context
