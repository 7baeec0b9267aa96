"""What every inference backend looks like from outside, and what several of them share."""

import importlib.util


class Runner:
    """One model, loaded on one backend.  Used inside ``with``; shared between threads where it is ``concurrent``.

    backend     the backend's name in the table of runners
    device      where it computes: "cpu" or "cuda"
    concurrent  whether several threads may call infer() at the same time
    """

    backend = ""
    device = "cpu"
    concurrent = False

    def infer(self, batch):
        """Return logits, float32 [N, classes], of a batch, float32 [N, height, width, 3] with values 0 to 255.

        Raises BackendError where the backend fails.
        """
        raise NotImplementedError

    def close(self):
        """Free what the backend holds; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def installed_version(module, package):
    """Return the version of a package by pip, without importing its module: some load hundreds of MB of libraries at once.

    Raises ImportError where it is missing.
    """
    # Looked for first, since reading a package's metadata would cost each start some milliseconds.
    if importlib.util.find_spec(module) is None:
        raise ImportError(module)
    from importlib.metadata import version

    return version(package)  # its PackageNotFoundError is an ImportError


def brief(error):
    """Return an error of a library that says much, over lines, as one line of bearable length."""
    return " ".join(str(error).split())[:400]
