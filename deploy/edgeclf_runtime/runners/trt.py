"""TensorRT, 8.2 to 11, on an NVIDIA GPU: FP16 and INT8 where the model has them.

The engine is made by ``engine.py``, on this device, the first time that a model is opened.
"""

from typing import Any

from ..cuda import open_cuda
from ..engine import MAX_BATCH, ensure_engine
from ..engine_api import has, load_tensorrt, version_of
from ..engine_main import make_logger
from ..errors import BackendError
from .base import Runner

_INPUT, _OUTPUT = 0, 1
# What the stream has come to, for the time that copying takes.
_BEGIN, _UPLOADED, _INFERRED, _DOWNLOADED = range(4)


def version():
    """Return TensorRT's version."""
    try:
        return load_tensorrt().__version__
    except BackendError as error:
        raise ImportError(str(error))


class TensorRtRunner(Runner):
    """A model on TensorRT.

    threads         of no meaning here

    transfer_ms     what copying to and from the GPU took of the last inference
    """

    backend = "tensorrt"
    device = "cuda"

    def __init__(self, model_path, threads=None):
        trt = load_tensorrt()
        self.transfer_ms = 0.0
        self._engine: Any = None
        self._runtime: Any = None
        self._calls: Any = None
        self._arrays: Any = ()
        self._logger = make_logger(trt)
        self._cuda = open_cuda()
        try:
            plan = ensure_engine(model_path, self._cuda.device).plan
            self._open(trt, plan)
        except BaseException:
            self.close()
            raise

    def _open(self, trt, plan):
        trt.init_libnvinfer_plugins(self._logger, "")
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._failed("cannot load the engine; build it again: build --retry")
        calls = NamedTensors if has(version_of(trt), "named tensors") else Bindings
        self._calls = calls(trt, self._engine)
        shapes = [(MAX_BATCH,) + tuple(shape)[1:] for shape in self._calls.shapes]
        self._arrays = [self._cuda.pinned(shape) for shape in shapes]
        self._addresses = [self._cuda.allocate(array.nbytes) for array in self._arrays]
        self._calls.use(self._addresses)

    def infer(self, batch):
        import numpy as np

        if batch.shape[1:] != self._arrays[_INPUT].shape[1:]:
            raise BackendError(
                "a batch of shape {} was given, the model's is {}".format(
                    list(batch.shape), [-1, *self._arrays[_INPUT].shape[1:]]
                )
            )
        self.transfer_ms = 0.0
        parts = [batch[start : start + MAX_BATCH] for start in range(0, len(batch), MAX_BATCH)]
        return np.concatenate([self._infer(part) for part in parts])

    def _infer(self, batch):
        given, answer = (array[: len(batch)] for array in self._arrays)
        given[...] = batch
        cuda = self._cuda
        cuda.mark(_BEGIN)
        cuda.upload(self._addresses[_INPUT], given)
        cuda.mark(_UPLOADED)
        if not self._calls.enqueue(batch.shape, cuda.stream):
            raise self._failed("failed on a batch of shape {}".format(list(batch.shape)))
        cuda.mark(_INFERRED)
        cuda.download(answer, self._addresses[_OUTPUT])
        cuda.mark(_DOWNLOADED)
        cuda.synchronize()
        self.transfer_ms += cuda.elapsed_ms(_BEGIN, _UPLOADED) + cuda.elapsed_ms(_INFERRED, _DOWNLOADED)
        return answer.copy()

    def _failed(self, what):
        return BackendError(
            "TensorRT {}: {}".format(what, "; ".join(self._logger.errors[-5:]) or "no reason was given")
        )

    def close(self):
        # Each needs those after it: context, engine, runtime, memory; and no array may outlive its memory.
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

    def enqueue(self, shape, stream):
        """Begin an inference of a batch of that shape; returns whether it was begun."""
        return self._context.set_input_shape(self._names[_INPUT], shape) and self._context.execute_async_v3(stream)


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

    def enqueue(self, shape, stream):
        placed = self._context.set_binding_shape(self._order[_INPUT], shape)
        return placed and self._context.execute_async_v2(self._addresses, stream)


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
