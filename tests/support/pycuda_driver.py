"""What stands for pycuda.driver where there is no GPU."""

import ctypes
from functools import partial
from types import SimpleNamespace

import numpy as np

from tests.support.gpus import GPU


class Context:
    """The GPU's context, which a thread pushes before its calls and pops after them."""

    def __init__(self, driver):
        self.driver = driver

    def push(self):
        self.driver.stack.append(self)

    def detach(self):
        assert not self.driver.stack
        self.driver.detached += 1


class Device:
    """The first GPU."""

    def __init__(self, driver, number):
        assert number == 0
        self.driver = driver

    def retain_primary_context(self):
        self.driver.contexts += 1
        return Context(self.driver)

    def total_memory(self):
        return 8 << 30

    def name(self):
        return GPU

    def compute_capability(self):
        return (8, 7)

    def get_attribute(self, attribute):
        return int(attribute == "integrated")


class Stream:
    """A queue of the GPU's work, which is done at once."""

    handle = 7

    def __init__(self, driver):
        self.driver = driver

    def synchronize(self):
        assert self.driver.stack


class Event:
    """A point in a stream; between any two lie 0.25 ms."""

    def __init__(self, driver):
        self.driver = driver

    def record(self, stream):
        assert self.driver.stack
        assert isinstance(stream, Stream)

    def time_till(self, other):
        return 0.25


class Allocation:
    """The GPU's memory."""

    def __init__(self, size):
        self.memory = ctypes.create_string_buffer(size)

    def __int__(self):
        return ctypes.addressof(self.memory)


class PyCudaDriver:
    """pycuda.driver, its memory being the processor's; a call without its context is an error."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    device_attribute = SimpleNamespace(INTEGRATED="integrated")
    pagelocked_empty = staticmethod(np.empty)

    def __init__(self, memory_bytes=1 << 20):
        self.stack, self.detached, self.contexts, self.left = [], 0, 0, memory_bytes
        # pop() takes no context: it is the thread's last.
        self.Context, self.Device = SimpleNamespace(pop=self.stack.pop), partial(Device, self)
        self.Stream, self.Event = partial(Stream, self), partial(Event, self)

    def init(self):
        pass

    def mem_get_info(self):
        assert self.stack
        return 5 << 30, 8 << 30

    def mem_alloc(self, size):
        assert self.stack
        if size > self.left:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return Allocation(size)

    def memcpy_htod_async(self, to, array, stream):
        assert self.stack
        ctypes.memmove(to, array.ctypes.data, array.nbytes)

    def memcpy_dtoh_async(self, array, source, stream):
        assert self.stack
        ctypes.memmove(array.ctypes.data, source, array.nbytes)
