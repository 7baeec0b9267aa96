"""What stands for a GPU where there is none: a libcudart of 60 lines whose memory is the processor's, and a TensorRT.

They show that each call has the right arguments and the right order, and what is said when one
fails; how a GPU computes they cannot show.
"""

import ctypes
import json
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf_runtime.trt.cuda import Device

NANO = Device("NVIDIA Tegra X1", (5, 3), 4 << 30, 2 << 30, True)
TX2 = Device("NVIDIA Tegra X2", (6, 2), 8 << 30, 5 << 30, True)
ORIN = Device("Orin", (8, 7), 64 << 30, 40 << 30, True)
RTX = Device("NVIDIA GeForce RTX 4070", (8, 9), 12 << 30, 11 << 30, False)
GPU = "Stand-in GPU"
# FAIL_CUDA names a function and its error, as in "cudaMalloc 2".
CUDART = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static int live, context, resets;
int live_objects(void) { return live; }
int has_context(void) { return context; }
int resets_asked_for(void) { return resets; }
int cuInit(unsigned flags) { return flags; }
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) { *active = context; return device; }
static int fails(const char *name)
{
    char wanted[64] = "";
    int code = 0;
    const char *given = getenv("FAIL_CUDA");
    return given && sscanf(given, "%63s %d", wanted, &code) == 2 && !strcmp(name, wanted) ? code : 0;
}
#define MAY_FAIL if (fails(__func__)) return fails(__func__)
int cudaDeviceReset(void) { MAY_FAIL; context = 0; resets++; return live; }
static int make(void **p, size_t n) { context = 1; *p = calloc(1, n); live++; return 0; }
static int end(void *p) { free(p); live--; return 0; }
static int asked;
int cudaGetLastError(void) { asked++; return 0; }
int last_errors_asked_for(void) { return asked; }
const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "as it was told"; }
int cudaGetDeviceCount(int *n) { MAY_FAIL; *n = 1; return 0; }
int cudaGetDeviceProperties(char *p, int device) { MAY_FAIL; memset(p, 1, 1008); strcpy(p, "Stand-in GPU"); *(size_t *)(p + 288) = 6ul << 30; return device; }
int cudaDeviceGetAttribute(int *v, int a, int device) { MAY_FAIL; *v = a == 75 ? 8 : a == 76 ? 7 : !getenv("DISCRETE"); return device; }
int cudaMemGetInfo(size_t *free, size_t *total) { MAY_FAIL; context = 1; *free = 5ul << 30; *total = 8ul << 30; return 0; }
int cudaMalloc(void **p, size_t n) { MAY_FAIL; return make(p, n); }
int cudaMallocHost(void **p, size_t n) { MAY_FAIL; return make(p, n); }
int cudaStreamCreate(void **p) { MAY_FAIL; return make(p, 1); }
int cudaEventCreate(void **p) { MAY_FAIL; return make(p, 1); }
int cudaFree(void *p) { return end(p); }
int cudaFreeHost(void *p) { return end(p); }
int cudaStreamDestroy(void *p) { return end(p); }
int cudaEventDestroy(void *p) { return end(p); }
int cudaMemcpyAsync(void *to, void *from, size_t n, int kind, void *stream)
{
    MAY_FAIL;
    if ((kind != 1 && kind != 2) || !stream) return 1;
    memcpy(to, from, n);
    return 0;
}
int cudaEventRecord(void *event, void *stream) { MAY_FAIL; return event && stream ? 0 : 1; }
int cudaEventElapsedTime(float *ms, void *first, void *second) { MAY_FAIL; *ms = 0.25f; return first == second; }
int cudaStreamSynchronize(void *stream) { MAY_FAIL; return stream ? 0 : 1; }
static int capturing;
static void (*replay)(void);
int is_capturing(void) { return capturing; }
void set_replay(void (*function)(void)) { replay = function; }
int cudaStreamBeginCapture(void *stream, int mode) { MAY_FAIL; capturing = stream && mode == 1; return !capturing; }
int cudaStreamEndCapture(void *stream, void **graph) { capturing = 0; MAY_FAIL; return stream ? make(graph, 1) : 1; }
int cudaGraphInstantiate(void **run, void *graph, void *node, void *log, size_t n) { MAY_FAIL; return node || log || n ? 1 : make(run, 1); }
int cudaGraphLaunch(void *run, void *stream) { MAY_FAIL; if (!run || !stream || !replay) return 1; replay(); return 0; }
int cudaGraphDestroy(void *p) { return end(p); }
int cudaGraphExecDestroy(void *p) { return end(p); }
"""


def make_cudart(folder):
    """Return the path of the stand-in; skips where there is no compiler."""
    if not shutil.which("gcc"):
        pytest.skip("CUDA's calls are tried on a stand-in that gcc makes, and there is no gcc")
    source, library = folder / "cudart.c", folder / "libcudart.so.12"
    source.write_text(CUDART)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)


def array_at(address, shape):
    """The float32 numbers at an address, as an array."""
    count = int(np.prod(shape))
    memory = (ctypes.c_float * count).from_address(address)
    return np.frombuffer(memory, np.float32).reshape(shape)


class Net:
    """A TensorRT of one version.

    shapes      of the engines' input and outputs
    compute     what they answer: the mean of each channel, unless it is set
    features    what a second output, of a shape that is put into ``shapes``, answers
    happened    what was made and deleted, in order
    enqueued    how many inferences were begun by TensorRT itself, recordings included
    cudart      the stand-in's library, whose graphs record what is begun
    layers      what the inspector says of the engine's layers
    """

    def __init__(self, version, cudart=None):
        self.shapes = {"logits": (-1, 3), "image": (-1, 4, 5, 3)}
        self.cudart, self.enqueued = cudart, 0
        self.layers = [{"Name": "conv", "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]}]
        self.settings = {}
        self.compute = lambda batch: batch.mean((1, 2))
        self.features = lambda batch: batch.max((1, 2))
        self.happened = []
        self.fails = False
        self.loads = True
        self.module = SimpleNamespace(
            __version__=version,
            # In 8.0 it cannot be derived from.
            ILogger=None if version.startswith("8.0") else Logger,
            Logger=Logger,
            init_libnvinfer_plugins=lambda logger, name: True,
            Runtime=lambda logger: Runtime(self, logger),
            TensorIOMode=SimpleNamespace(INPUT="input", OUTPUT="output"),
            DataType=SimpleNamespace(FLOAT="float"),
            LayerInformationFormat=SimpleNamespace(JSON="JSON"),
        )

    def run(self, compute):
        """Do what TensorRT was asked to do, or let it be recorded."""
        self.enqueued += 1
        if self.cudart and self.cudart.is_capturing():
            self.replay = ctypes.CFUNCTYPE(None)(compute)
            self.cudart.set_replay(self.replay)
        else:
            compute()
        return not self.fails


class Logger:
    ERROR, INTERNAL_ERROR = 1, 0

    def __init__(self, severity=None):
        pass

    def log(self, severity, message):
        print(message)


class Part:
    """Tells its Net when it is made and when it goes."""

    def __init__(self, net):
        self.net = net
        net.happened.append("+" + type(self).__name__)

    def __del__(self):
        self.net.happened.append("-" + type(self).__name__)


class Runtime(Part):
    def __init__(self, net, logger):
        super().__init__(net)
        self.logger = logger
        net.settings = self.__dict__

    def deserialize_cuda_engine(self, plan):
        if not self.net.loads:
            self.logger.log(Logger.ERROR, "magicTag does not match")
            return None
        old = self.net.module.__version__.startswith(("8.0", "8.2"))
        return (OldEngine if old else NamedEngine)(self.net)


class Engine(Part):
    def create_engine_inspector(self):
        text = json.dumps({"Layers": self.net.layers})
        return SimpleNamespace(get_engine_information=lambda form: text if form == "JSON" else None)


class NamedEngine(Engine):
    @property
    def num_io_tensors(self):
        return len(self.net.shapes)

    def get_tensor_name(self, place):
        return list(self.net.shapes)[place]

    def get_tensor_mode(self, name):
        return "input" if name == "image" else "output"

    def get_tensor_dtype(self, name):
        return "float"

    def get_tensor_shape(self, name):
        return self.net.shapes[name]

    def create_execution_context(self):
        return NamedContext(self.net)


class Context(Part):
    shape = None

    def answer(self, addresses):
        """Begin an inference; addresses: of the input and the outputs, by name."""
        shape, computes = self.shape, {"logits": self.net.compute, "features": self.net.features}

        def run():
            for name in self.net.shapes.keys() & computes.keys():
                answer = computes[name](array_at(addresses["image"], shape))
                array_at(addresses[name], answer.shape)[...] = answer

        return self.net.run(run)


class NamedContext(Context):
    def __init__(self, net):
        super().__init__(net)
        self.addresses = {}

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def set_input_shape(self, name, shape):
        self.shape = shape
        return name == "image" and shape[0] <= 8

    def execute_async_v3(self, stream_handle):
        return bool(stream_handle) and self.answer(self.addresses)


class OldEngine(Engine):
    @property
    def num_bindings(self):
        return len(self.net.shapes)

    @property
    def names(self):
        return list(self.net.shapes)

    def binding_is_input(self, place):
        return self.names[place] == "image"

    def get_binding_name(self, place):
        return self.names[place]

    def get_binding_dtype(self, place):
        return "float"

    def get_binding_shape(self, place):
        return self.net.shapes[self.names[place]]

    def create_execution_context(self):
        return OldContext(self.net)


class OldContext(Context):
    def set_binding_shape(self, place, shape):
        self.shape = shape
        return list(self.net.shapes)[place] == "image" and shape[0] <= 8

    def execute_async_v2(self, bindings, stream_handle):
        return bool(stream_handle) and self.answer(dict(zip(self.net.shapes, bindings)))
