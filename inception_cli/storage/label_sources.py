"""Where the ground truth of a run comes from: a part of its manifest."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from inception_cli.errors import excerpt, require, require_sha256, require_text

LabelFormat = Literal["wnid", "name", "number", "minus-1", "plus-1", "ilsvrc", "rank", "rank-1", "sorted"]
SKIP = re.compile(r"skip-(\d{1,9})", re.ASCII)  # a label format


def require_label_format(value: str) -> None:
    """Raise UsageError unless `value` is one of LabelFormat, or `skip-N`."""
    choices = ", ".join((*get_args(LabelFormat), "skip-N"))
    known = value in get_args(LabelFormat) or bool(SKIP.fullmatch(value))
    require(known, f"label_format {excerpt(repr(value))}: choose from {choices}")


@dataclass(frozen=True)
class LabelSources:
    """Where the ground truth of a run comes from, kept in the manifest so that predictions can be scored again."""

    val_dir: str | None = None
    labels: tuple[str, ...] = ()  # files
    label_format: str | None = None  # None: recognised
    exclude: str | None = None  # a file
    sha256: Mapping[str, str] = field(default_factory=dict)  # of the files, by name

    def __post_init__(self) -> None:
        files = [("val_dir", self.val_dir), *(("labels", name) for name in self.labels), ("exclude", self.exclude)]
        for name, file in files:
            if file is not None:
                require_text(name, file)
        if self.label_format is not None:
            require_label_format(self.label_format)
        for sha256 in self.sha256.values():
            require_sha256("sha256", sha256)

    def __bool__(self) -> bool:
        return bool(self.val_dir or self.labels)
