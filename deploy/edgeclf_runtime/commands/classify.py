"""``classify``: labels of image files."""

import json

from ..errors import ImageError
from ..text.terminal import printable, show_message
from .output import print_json, print_text


def open_classifier(arguments, at_once=1):
    """Open the bundle's classifier as the options say; ``at_once``: how many threads will call it."""
    from ..classify.classifier import Classifier

    names = ("model", "backend", "top_k", "threshold", "allow", "deny", "threads", "tune")
    return Classifier.open(
        arguments.bundle,
        **{name: getattr(arguments, name) for name in names},
        at_once=at_once,
        show_tuning=show_message,
    )


def classify(arguments):
    """Print the label of each image; returns the exit code, that of an ImageError if a file is not an image."""
    from ..images.read import each_image
    from ..results import find_origin

    code = 0
    find_origin(device=arguments.device_name)  # a wrong name shows before a model is opened
    with open_classifier(arguments) as classifier:
        for path in each_image(arguments.images):
            try:
                if isinstance(path, ImageError):
                    raise path
                result = classifier.classify(path, arguments.roi, arguments.rotation)
            except ImageError as error:
                # One line, whatever the file's name is.
                show_message(printable("error: {}".format(error)))
                code = error.exit_code
                continue
            if arguments.json:
                origin = find_origin(classifier.bundle_id, path, arguments.device_name)
                print_json(json.dumps(dict({"image": path}, **result.to_dict(), **origin.to_dict())))
            else:
                print_text("{}  {}".format(path, result))
    return code
