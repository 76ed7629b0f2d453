"""XMP sidecars: files with the metadata of a photo beside it, `photo.xmp` or `photo.jpg.xmp`."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from inception_cli.actions.folder_names import stem_and_suffix
from inception_cli.images.discovery import SUPPORTED_SUFFIXES, UNSUPPORTED_SUFFIXES, suffix_of

SUFFIX = ".xmp"


@dataclass(frozen=True)
class Sidecar:
    """A sidecar of a photo."""

    source: str
    status: os.stat_result
    of_stem: bool  # photo.xmp, not photo.jpg.xmp
    shared: bool  # photo.xmp of photo.jpg and photo.cr2

    def name_for(self, photo: str) -> str:
        """Return the name of the sidecar beside a photo of this name."""
        return (stem_and_suffix(photo)[0] if self.of_stem else photo) + self.source[-len(SUFFIX) :]


def sidecars(photo: str, only_files: bool) -> list[Sidecar]:
    """Return the sidecars of a photo that are regular files; with `only_files` without links to such."""
    folder, _, name = photo.rpartition("/")
    by_base, found = _sidecars_in(folder or "/"), []
    for base in dict.fromkeys((stem_and_suffix(name)[0], name)) if by_base else ():
        names, photos = by_base.get(base, ((), 0))
        for sidecar in names:
            source = f"{folder}/{sidecar}"
            with suppress(OSError):
                status = os.stat(source, follow_symlinks=not only_files)  # noqa: PTH116
                if stat.S_ISREG(status.st_mode):
                    found.append(Sidecar(source, status, base != name, photos > 1))
    return found


@lru_cache(maxsize=10_000)
def _sidecars_in(folder: str) -> Mapping[str, tuple[list[str], int]]:
    """Return the sidecars in a folder by name without `.xmp`, each with the number of photos that they belong to."""
    found: dict[str, list[str]] = {}
    photos: Counter[str] = Counter()
    with suppress(OSError):
        for name in _names(folder):
            if name[-len(SUFFIX) :].lower() == SUFFIX:
                found.setdefault(name[: -len(SUFFIX)], []).append(name)
        for name in _names(folder) if found else ():
            suffix = suffix_of(name)
            if not suffix or suffix in SUPPORTED_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES:
                photos.update({stem_and_suffix(name)[0], name} & found.keys())
    return {base: (sorted(names), photos[base]) for base, names in found.items()}


def _names(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.name for entry in entries)
