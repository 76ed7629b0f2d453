"""The names in the target folder of a sort: which are taken, and which a photo gets."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

from inception_cli.actions.folder_names import folder_name, name_key, numbered, stem_and_suffix
from inception_cli.actions.sidecars import SUFFIX, Sidecar
from inception_cli.errors import InceptionError, os_errors
from inception_cli.files.hashing import sha256

#: In place of a source: the name was there before the sort.
_BEFORE = ""


class TargetFolder:
    """The folder of one label. Names that differ only in case are one name, as on macOS, Windows and USB sticks."""

    def __init__(self, path: Path) -> None:
        self.path, self.name, self.photos = path, path.name, 0
        self.new = not os.path.lexists(path)
        self._sources: dict[str, str] = {}  # by name
        self._stems: dict[str, str] = {}  # stem → the photo without its suffix, of the first photo with this stem
        self._numbers: dict[str, int] = {}  # the last number that a name got
        self._by_size: dict[tuple[str, int], list[str]] = {}  # name before numbering, bytes → sources
        self._digests: dict[str, str] = {}
        if not self.new:
            self._list()

    def _list(self) -> None:
        """Take the names that are in the folder before the sort."""
        if self.path.is_symlink() or not self.path.is_dir():
            kind = "a symbolic link" if self.path.is_symlink() else "a file"
            raise InceptionError(f"{self.path}: is {kind}, not a folder; move it away, or choose another folder")
        with os_errors(self.path, "make it readable, or choose another folder"), os.scandir(self.path) as entries:
            for entry in entries:
                self._sources[name_key(entry.name)] = _BEFORE
                self._stems.setdefault(name_key(stem_and_suffix(entry.name)[0]), _BEFORE)

    def holds(self, source: str) -> bool:
        """Return whether a photo is in this folder already."""
        return source.rpartition("/")[0] == str(self.path)

    def same_photo(self, source: str, size: int) -> str:
        """Return an earlier source with the same name, size and content; "" if there is none."""
        key = name_key(source.rpartition("/")[2])
        first = self._sources.get(key)
        if first is None:
            return ""
        if key not in self._numbers and first != _BEFORE:  # the first source has no successor yet
            self._numbers[key] = 1
            with suppress(OSError):
                self._by_size[key, Path(first).stat().st_size] = [first]
        others = self._by_size.setdefault((key, size), [])
        same = next((other for other in others if self._digest(other) == self._digest(source)), "")
        if not same:
            others.append(source)
        return same

    def _digest(self, source: str) -> str:
        """Return the hash of a file; of an unreadable one a hash that no other file has."""
        if source not in self._digests:
            try:
                self._digests[source] = sha256(Path(source))
            except OSError:
                self._digests[source] = source
        return self._digests[source]

    def add(self, source: str, beside: Sequence[Sidecar]) -> str:
        """Return a free name for a photo under which its sidecars are free as well, and take it."""
        original = source.rpartition("/")[2]
        stem, suffix = stem_and_suffix(original)
        key, group = name_key(original), source.removesuffix(suffix)
        for number in count(self._numbers.get(key, 1)):
            name = numbered(stem, suffix, number, room=len(SUFFIX))
            keys = name_key(name), name_key(stem_and_suffix(name)[0])
            if self._is_free(name, keys, group, beside):
                break
        if number > 1:
            self._numbers[key] = number
        self._sources[keys[0]] = source
        self._stems.setdefault(keys[1], group)
        self.photos += 1
        return name

    def add_sidecar(self, name: str, source: str) -> bool:
        """Take the name of a sidecar; False if the sidecar is there already."""
        key = name_key(name)
        is_new = key not in self._sources
        self._sources[key] = source
        return is_new

    def _is_free(self, name: str, keys: tuple[str, str], group: str, beside: Sequence[Sidecar]) -> bool:
        """Return whether a photo can have this name without getting another's sidecar or giving its own to another.

        `keys` are those of the name and of its stem.
        """
        if keys[0] in self._sources:
            return False
        own = {name_key(sidecar.name_for(name)): sidecar.source for sidecar in beside}
        for key in (*own, keys[0] + SUFFIX, keys[1] + SUFFIX):  # the suffix is its own key
            if key in self._sources and self._sources[key] != own.get(key):
                return False
        return not any(sidecar.of_stem for sidecar in beside) or self._stems.get(keys[1], group) == group


class TargetFolders:
    """The folders of all labels; different labels have different folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._by_label: dict[str, TargetFolder] = {}
        self._names: set[str] = set()

    def __iter__(self) -> Iterator[TargetFolder]:
        return iter(self._by_label.values())

    def of_label(self, label: str) -> TargetFolder:
        """Return the folder of a label."""
        if label not in self._by_label:
            safe = folder_name(label)
            names = (numbered(safe, "", number) for number in count(1))
            name = next(name for name in names if name_key(name) not in self._names)
            self._names.add(name_key(name))
            self._by_label[label] = TargetFolder(self.root / name)
        return self._by_label[label]
