"""Retained, the messages that a broker keeps for later readers: the latest of each topic."""

import threading
from typing import Callable, Dict, List, Set, Tuple, Union

Payload = Union[str, bytes, Callable[[], bytes]]


class Retained:
    """The latest payload of each topic, and which of them the broker has yet to get; used by several threads.

    A payload that takes time to make, such as a picture, may be a function, which take() calls.
    """

    def __init__(self) -> None:
        self._latest: Dict[str, Payload] = {}  # in the order in which topics were first set
        self._due: Set[str] = set()
        self._changing = threading.Lock()

    def set(self, topic: str, payload: Payload) -> None:
        """Set the payload of a topic, in place of the one before, which may never have been sent."""
        with self._changing:
            self._latest[topic] = payload
            self._due.add(topic)

    def send_again(self) -> None:
        """Make every topic due: the broker may have forgotten them."""
        with self._changing:
            self._due.update(self._latest)

    def take(self) -> List[Tuple[str, Union[str, bytes]]]:
        """Return the topics and payloads that are due."""
        with self._changing:
            taken = [(topic, payload) for topic, payload in self._latest.items() if topic in self._due]
            self._due.clear()
        return [(topic, payload() if callable(payload) else payload) for topic, payload in taken]
