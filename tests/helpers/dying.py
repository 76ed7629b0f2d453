"""A list of paths that kills or stops the process that reads one of them."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Deadly(Sequence[str]):
    """Paths; the first `times` reads of the one at `position` kill the process, except the one that made the list."""

    def __init__(
        self, paths: Sequence[str], position: int, times: int, deaths: Path, number: signal.Signals = signal.SIGKILL
    ) -> None:
        self.paths, self.position, self.times, self.deaths = [*paths], position, times, deaths
        self.pid, self.number = os.getpid(), number

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if index == self.position and os.getpid() != self.pid:
            count = self.deaths.read_text().count("x") if self.deaths.exists() else 0
            if count < self.times:
                with self.deaths.open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), self.number)
        return self.paths[index]
