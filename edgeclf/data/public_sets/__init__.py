"""Public data sets by name, whose images are unpacked once into files.

The authors' files are looked for in the folder that EDGECLF_DATA names, by default ``~/.cache/edgeclf``, in the layout of
torchvision.  Nothing is downloaded unless the user asks, nothing is unpickled, and no archive is extracted.
"""

from .cifar10 import CIFAR10
from .fashion_mnist import FASHION_MNIST
from .public_set import PublicSet

PUBLIC_SETS = {one.name: one for one in (CIFAR10, FASHION_MNIST)}

__all__ = ["PUBLIC_SETS", "PublicSet"]
