"""Random changes of the images of training, and a contact sheet of them."""

from .transform import Augmentation, augmentation

__all__ = ["Augmentation", "augmentation"]
