"""``classify``: labels of image files."""

import functools
import json
from typing import TYPE_CHECKING, Callable, Optional

from ..errors import ImageError
from ..text.terminal import printable, show_message
from .output import print_json, print_text

if TYPE_CHECKING:
    from argparse import Namespace

    from ..classify.classifier import Classifier
    from ..classify.tuning.choice import Choice, Tuning


def open_classifier(arguments: "Namespace", at_once: int = 1, choice: "Optional[Choice]" = None) -> "Classifier":
    """Open the bundle's classifier with the given options, for ``at_once`` threads."""
    from ..classify.classifier import Classifier

    names = ("model", "backend", "top_k", "threshold", "most_distance", "allow", "deny", "threads", "tune")
    return Classifier.open(
        arguments.bundle,
        **{name: getattr(arguments, name) for name in names},
        at_once=at_once,
        show_tuning=show_tuning(arguments),
        choice=choice,
    )


def show_tuning(arguments: "Namespace") -> "Optional[Callable[[Tuning], None]]":
    """Return the function that prints measurements: a table if they were asked for, otherwise one line, or nothing with --json."""
    if arguments.json and not arguments.tune:
        return None
    return functools.partial(_show_tuning, bool(arguments.tune))


def _show_tuning(table: bool, found: "Tuning") -> None:
    show_message(found if table else found.line)


def classify(arguments: "Namespace") -> int:
    """Print the label of each image; returns the exit code: 0, or that of an ImageError if a file is not an image."""
    from ..images.read import each_image
    from ..results import find_origin

    code = 0
    find_origin(device=arguments.device_name)  # reports an invalid name before a model is opened
    with open_classifier(arguments) as classifier:
        for path in each_image(arguments.images):
            try:
                if isinstance(path, ImageError):
                    raise path
                result = classifier.classify(path, arguments.roi, arguments.rotation)
            except ImageError as error:
                # One line, whatever characters are in the file's name.
                show_message(printable("error: {}".format(error)))
                code = error.exit_code
                continue
            if arguments.json:
                origin = find_origin(classifier.bundle_id, path, arguments.device_name)
                print_json(json.dumps(dict({"image": path}, **result.to_dict(), **origin.to_dict())))
            else:
                print_text("{}  {}".format(path, result))
    return code
