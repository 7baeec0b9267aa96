"""Options of the command list for a backbone."""

from __future__ import annotations

from dataclasses import dataclass

from .declaration import option


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """Options of the command list."""

    stages: bool = option(False, "Show the stages of one backbone, and which --finetune trains them.")
    latency: bool = option(False, "Also measure each stage on this machine's CPU, in torch.")
