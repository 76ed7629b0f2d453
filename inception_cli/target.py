"""Where the rows of a command go: by this machine into a file, or by a cluster into a folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from inception_cli.errors import UsageError
from inception_cli.stores import is_remote

if TYPE_CHECKING:
    from inception_cli.cluster import Engine
    from inception_cli.session import Outcome, Watch
    from inception_cli.settings import Settings


@dataclass(frozen=True)
class Target:
    """Where rows go, and what may be lost for it."""

    out: str
    restart: bool
    force: bool
    cluster: "Engine | None" = None  # which then writes a folder

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Self:
        """What the words of a command say."""
        kept = words["out"], words["restart"], words["force"]
        if words["engine"] == "local":
            if words["ray_address"] or words["actors"]:
                raise UsageError("--ray-address and --actors are for --engine ray")
            return cls(*kept)
        if words["out"].lower() == "-" or Path(words["out"]).suffix.lower() in (".csv", ".jsonl", ".parquet"):
            raise UsageError(f"--out {words['out']}: --engine ray writes a folder of Parquet parts: name one")
        from inception_cli.cluster import Engine

        return cls(*kept, Engine(words["ray_address"], words["actors"]))

    @property
    def streams(self) -> bool:
        """Whether the rows go to standard output."""
        if self.cluster and not self.out:
            raise UsageError("--engine ray writes a folder: give --out FOLDER")
        return self.out in ("", "-")

    def write(
        self, named: list[str], settings: "Settings", watch: "Watch", truth: Mapping[str, Any] | None = None
    ) -> "Outcome":
        """Classify what was named into that file or folder."""
        from inception_cli import session

        rest = self.restart, self.force, watch, truth
        if self.cluster:
            return session.to_folder(named, settings, self.out, self.cluster, *rest)
        if far := next(filter(is_remote, named), None):
            raise UsageError(f"{far}: photos in a store are read with --engine ray")
        return session.to_file(named, settings, Path(self.out), *rest)
