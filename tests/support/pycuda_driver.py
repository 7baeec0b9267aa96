"""What stands for pycuda.driver where there is no GPU."""

import ctypes
from types import SimpleNamespace

import numpy as np

from tests.support.gpus import GPU


class PyCudaDriver:
    """pycuda.driver, its memory being the processor's; a call without its context is an error."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    device_attribute = SimpleNamespace(INTEGRATED="integrated")
    pagelocked_empty = staticmethod(np.empty)

    def __init__(self, memory_bytes=1 << 20):
        driver = self
        self.stack, self.detached, self.contexts, self.left = [], 0, 0, memory_bytes

        class Context:
            def push(self):
                driver.stack.append(self)

            @staticmethod
            def pop():
                driver.stack.pop()

            def detach(self):
                assert not driver.stack
                driver.detached += 1

        class Device:
            def __init__(self, number):
                assert number == 0

            def retain_primary_context(self):
                driver.contexts += 1
                return Context()

            def total_memory(self):
                return 8 << 30

            def name(self):
                return GPU

            def compute_capability(self):
                return (8, 7)

            def get_attribute(self, attribute):
                return int(attribute == "integrated")

        class Stream:
            handle = 7

            def synchronize(self):
                assert driver.stack

        class Event:
            def record(self, stream):
                assert driver.stack
                assert isinstance(stream, Stream)

            def time_till(self, other):
                return 0.25

        class Allocation:
            def __init__(self, size):
                self.memory = ctypes.create_string_buffer(size)

            def __int__(self):
                return ctypes.addressof(self.memory)

        self.Context, self.Device, self.Stream, self.Event, self._allocation = (
            Context,
            Device,
            Stream,
            Event,
            Allocation,
        )

    def init(self):
        pass

    def mem_get_info(self):
        assert self.stack
        return 5 << 30, 8 << 30

    def mem_alloc(self, size):
        assert self.stack
        if size > self.left:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return self._allocation(size)

    def memcpy_htod_async(self, to, array, stream):
        assert self.stack
        ctypes.memmove(to, array.ctypes.data, array.nbytes)

    def memcpy_dtoh_async(self, array, source, stream):
        assert self.stack
        ctypes.memmove(array.ctypes.data, source, array.nbytes)
