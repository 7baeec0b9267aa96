"""Examples: small pictures of training images that a bundle may have, made by ``edgeclf bundle --examples``."""

import re
from typing import Dict

from .open_bundle import Bundle, VerifiedFile

MOST_BYTES = 1 << 16
_NAME = re.compile(r"examples/(0|[1-9][0-9]{0,8})\.jpg\Z")


def example_name(image: int) -> str:
    """Return the name, in a bundle, of the picture of a training image; ``image`` is its number as NearImage has it."""
    return "examples/{}.jpg".format(image)


def examples_of(bundle: Bundle) -> Dict[int, VerifiedFile]:
    """Return the pictures that a bundle's manifest lists, by the number of their training image; none over MOST_BYTES."""
    matches = [(_NAME.match(name), name) for name, facts in bundle.files.items() if facts["size"] <= MOST_BYTES]
    return {int(match.group(1)): bundle.file(name) for match, name in matches if match}
