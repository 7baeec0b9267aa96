"""Examples: small pictures of training images that a bundle may have, made by ``edgeclf bundle --examples``."""

import re
from typing import Dict, Optional

from .open_bundle import Bundle, VerifiedFile

MOST_BYTES = 1 << 16
_NAME = re.compile(r"examples/(0|[1-9][0-9]{0,8})\.jpg\Z")


def example_name(image: int) -> str:
    """Return the name, in a bundle, of the picture of a training image; ``image`` is its number as NearImage has it."""
    return "examples/{}.jpg".format(image)


def example_number(name: str) -> Optional[int]:
    """Return the number in a name that example_name() returns; None for any other name."""
    match = _NAME.match(name)
    return int(match.group(1)) if match else None


def examples_of(bundle: Bundle) -> Dict[int, VerifiedFile]:
    """Return the pictures that a bundle's manifest lists, by the number of their training image; none over MOST_BYTES."""
    numbers = [(example_number(name), name) for name, facts in bundle.files.items() if facts["size"] <= MOST_BYTES]
    return {number: bundle.file(name) for number, name in numbers if number is not None}
