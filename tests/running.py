"""The command `inception`, as tests run it: in their own process."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Inception = Callable[..., Ended]
