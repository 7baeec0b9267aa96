"""Explains why training broke off: an image, a worker process, or memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...errors import DataError, ImageError, ModelError
from ...options import TrainOptions

_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


@contextmanager
def explained(options: TrainOptions) -> Iterator[None]:
    """Turn what the libraries raise in the block into errors that say what to do."""
    try:
        yield
    except SystemExit as error:
        # Lightning ends the process on Ctrl-C; that is for the caller to decide.
        raise error.__context__ if isinstance(error.__context__, KeyboardInterrupt) else KeyboardInterrupt() from None
    except ImageError as error:
        # A worker process sends its traceback as the message; the error is its last line.
        text = str(error).strip().splitlines()[-1]
        raise ImageError(text.partition("ImageError: ")[2] or text) from None
    except (MemoryError, RuntimeError) as error:
        message = str(error)
        if "DataLoader worker" in message:
            raise DataError(
                "a process that loads images ended: the system kills processes when memory runs out; use fewer --workers, or "
                "--workers 0"
            ) from None
        short = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not short and not any(text in message.lower() for text in _NO_MEMORY):
            raise
        raise ModelError(f"there is not enough memory for training; {_advice(options)}") from None


def _advice(options: TrainOptions) -> str:
    size = options.batch_size
    least = 1 if options.finetune == "head" else 2
    if isinstance(size, int) and size > least:
        smaller = max(least, 2 ** ((size - 1).bit_length() - 1))
        return f"the batch size is {size}: use --batch-size {smaller}"
    return "use a smaller --image-size, or another --backbone"
