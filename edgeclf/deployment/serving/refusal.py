"""Answers other than the one that a client asked for."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of the server
    """A request that is not carried out.

    status: of HTTP.  headers: of the answer, besides its JSON ``{"error": message}``, as Open Inference Protocol has it.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


def too_busy(reason: str) -> Refusal:
    """Return the refusal of a request that may succeed a moment later."""
    return Refusal(503, f"{reason}; try again in a second", {"Retry-After": "1"})
