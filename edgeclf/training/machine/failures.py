"""Explains why training broke off: an image, a worker process, memory, or a loss that is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ...errors import DataError, ImageError, ModelError
from ...options import TrainOptions
from .precision import FULL

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


def not_the_rate(network: nn.Module, inputs: torch.Tensor, steps: int, precision: str) -> str:
    """Return why a loss is not finite, and what to do, if it is not the learning rate; else "".

    inputs: of the batch, as the network takes them.  steps: taken before it.  precision: as lightning.Trainer names it.
    """
    if not bool(inputs.isfinite().all()):
        return "its inputs are infinite or not a number: check the images, --mean and --std"
    damaged = next((name for name, value in network.named_parameters() if not bool(value.isfinite().all())), "")
    if damaged:
        # A step made them so, unless there was none.
        return "" if steps else f"the weights of {damaged} are infinite or not a number: use other --weights"
    with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        usual = bool(network(inputs).isfinite().all())
    if usual and precision != FULL:
        return f"it is finite in float32, so {precision} cannot hold the network's values: use --compute float32"
    if not steps:
        return (
            "no step was taken before, so the learning rate is not the cause: the network gives "
            + ("no finite loss" if usual else "logits that are not finite")
            + " with these weights; use other --weights, or another --backbone"
        )
    return ""
