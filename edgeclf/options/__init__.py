"""Options of the commands, each stated once for Python and for the command line.

A field made by :func:`option` is also an option on the command line; the other fields are for
Python only.  An invalid value raises OptionError.
"""

from .audit import AuditOptions
from .augmentation import FLIPS, POLICIES, PRESETS, AugmentationOptions, AugmentOptions, Steps, augmentation_steps
from .channels import IMAGENET, Three, channel_values
from .data import EVALUATED, SPLIT_METHODS, CheckOptions, SplitOptions, with_split_of
from .declaration import MOVED, SEED, SKIP_UNREADABLE, merged, option
from .deployment import PRECISIONS, BuildOptions, BundleOptions, DemoOptions, MakeOptions, ServeOptions, check_shares
from .evaluation import CORRUPTIONS, BulkOptions, CompareOptions, EvaluateOptions, PredictOptions, RobustnessOptions
from .export import EXPORT_FORMATS, ExportOptions
from .import_model import LAYOUTS, PIXEL_RANGES, ImportOptions
from .lists import ListOptions
from .optimization import DistillationOptions, LossOptions, MachineOptions, OptimizerOptions
from .quantization import METHODS, RULES, CalibrateOptions, QuantizeOptions
from .training import EPOCHS, FINETUNE, NO_EFFECT, RATE_DECAY, TrainOptions

__all__ = [
    "CORRUPTIONS",
    "EPOCHS",
    "EVALUATED",
    "EXPORT_FORMATS",
    "FINETUNE",
    "FLIPS",
    "IMAGENET",
    "LAYOUTS",
    "METHODS",
    "MOVED",
    "NO_EFFECT",
    "PIXEL_RANGES",
    "POLICIES",
    "PRECISIONS",
    "PRESETS",
    "RATE_DECAY",
    "RULES",
    "SEED",
    "SKIP_UNREADABLE",
    "SPLIT_METHODS",
    "AuditOptions",
    "AugmentOptions",
    "AugmentationOptions",
    "BuildOptions",
    "BulkOptions",
    "BundleOptions",
    "CalibrateOptions",
    "CheckOptions",
    "CompareOptions",
    "DemoOptions",
    "DistillationOptions",
    "EvaluateOptions",
    "ExportOptions",
    "ImportOptions",
    "ListOptions",
    "LossOptions",
    "MachineOptions",
    "MakeOptions",
    "OptimizerOptions",
    "PredictOptions",
    "QuantizeOptions",
    "RobustnessOptions",
    "ServeOptions",
    "SplitOptions",
    "Steps",
    "Three",
    "TrainOptions",
    "augmentation_steps",
    "channel_values",
    "check_shares",
    "merged",
    "option",
    "with_split_of",
]
