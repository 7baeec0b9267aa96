"""Backends that fail on purpose, and that see whether they are used in a way that would crash."""

import threading

from edgeclf_runtime.runners.base import Runner


class Strange(BaseException):
    """What no ``except Exception`` catches."""


ERRORS = (
    TypeError("Unable to create TensorRT runtime: factory function returned nullptr"),
    OSError("libcudart.so.10.2: cannot open shared object file"),
    RuntimeError("the device was lost"),
    AttributeError("module has no attribute 'Session'"),
    MemoryError(),
    SystemExit("the license has expired"),
    SystemExit(0),
    Strange("no Exception at all"),
)


def again(error):
    """An error like this one: what is raised twice keeps the frames of both times."""
    return type(error)(*error.args)


def words(error):
    """What must be said of an error."""
    return str(error) if str(error) not in ("", "0") else type(error).__name__


class Watched(Runner):
    """A runner that hands on to a real one, and notes what would be a use after free.

    fault       is called before each inference with its number, and may raise
    entered     is set as soon as a thread is inside
    wrong       what would have crashed a library: empty where all went well
    """

    def __init__(self, runner, fault=None):
        self.runner, self.fault = runner, fault
        self.backend, self.device, self.concurrent = runner.backend, runner.device, runner.concurrent
        self.inferences = self._inside = 0
        self.wrong = []
        self.entered, self.was_closed = threading.Event(), threading.Event()
        self._counting = threading.Lock()

    def infer_outputs(self, batch):
        with self._counting:
            self._note(self.was_closed.is_set(), "used after it was closed")
            self._note(self._inside and not self.concurrent, "two threads at once")
            self._inside += 1
            self.inferences += 1
            number = self.inferences
        self.entered.set()
        try:
            if self.fault is not None:
                self.fault(number)
            return self.runner.infer_outputs(batch)
        finally:
            with self._counting:
                self._inside -= 1

    def close(self):
        with self._counting:
            self._note(self._inside, "closed while a thread was inside")
            self._note(self.was_closed.is_set(), "closed twice")
            self.was_closed.set()
        self.runner.close()

    def _note(self, condition, what):
        if condition:
            self.wrong.append(what)


class Opener:
    """Opens Watched runners in the place of ``selection.open_runner``.

    runners     those that were opened, in their order
    on_open     by backend: what is called before a model is opened on it
    """

    def __init__(self, open_runner):
        self._open_runner = open_runner
        self.runners, self.on_open = [], {}

    def __call__(self, backend, *arguments):
        self.on_open.get(backend, lambda: None)()
        self.runners.append(Watched(self._open_runner(backend, *arguments)))
        return self.runners[-1]

    @property
    def backends(self):
        return [runner.backend for runner in self.runners]

    @property
    def wrong(self):
        """What would have crashed, and which runners were left open."""
        left = [runner.backend for runner in self.runners if not runner.was_closed.is_set()]
        return [what for runner in self.runners for what in runner.wrong] + ["open: " + name for name in left]


def raising(error, after=0):
    """A fault: raises the error after so many inferences."""

    def fault(number):
        if number > after:
            raise again(error)

    return fault


def in_threads(count, work):
    """Call ``work(number)`` in so many threads, which begin together; returns what they returned or raised."""
    outcomes = [None] * count
    together = threading.Barrier(count)

    def run(number):
        together.wait(30)
        try:
            outcomes[number] = work(number)
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread does not come back"
    return outcomes
