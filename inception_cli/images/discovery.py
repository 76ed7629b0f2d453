"""Find the images of the inputs: folders, files, glob patterns, paths on standard input, remote folders."""

import errno
import hashlib
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic, iglob
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from inception_cli.errors import InceptionError, NoImages, UsageError, os_reason, plural
from inception_cli.files import remote
from inception_cli.files.text_list import read_names

if TYPE_CHECKING:
    from pyarrow.fs import FileType

#: Suffixes of the formats that `decode.FORMATS` reads.
SUPPORTED_SUFFIXES = frozenset(
    f".{suffix}"
    for suffixes in (
        ("jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "png", "apng", "gif", "webp", "tif", "tiff", "avif", "avifs"),
        ("bmp", "dib", "ppm", "pgm", "pbm", "pnm", "pfm", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
        ("tga", "icb", "vda", "vst", "ico", "qoi"),
    )
    for suffix in suffixes
)
RAW = "raw camera"
#: Images that get a row `unsupported`, with the name of their format. HEIC is read if pillow-heif is installed.
UNSUPPORTED_SUFFIXES = {
    f".{suffix}": format_name
    for format_name, suffixes in {
        "HEIC": ("heic", "heics", "heif", "heifs", "hif"),
        "Photoshop": ("psd", "psb"),
        "JPEG XL": ("jxl",),
        "SVG": ("svg", "svgz"),
        RAW: (
            *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw"),
            *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
        ),
    }.items()
    for suffix in suffixes
}
#: Folders that hold no photos of the user.
SYSTEM_FOLDERS = frozenset(
    (
        *("@eaDir", "#recycle"),  # Synology: thumbnails, recycle bin
        "@Recycle",  # QNAP: recycle bin
        "__MACOSX",  # zip files of macOS: resource forks
        *("$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information"),  # Windows: recycle bin, restore points
        "lost+found",  # Linux: what fsck recovered
    )
)
NO_IMAGE = "pattern without an image"
NO_SUFFIX = "without a suffix"
#: Letters of a suffix that has its own count. Longer ones are parts of names, and counting each would take memory.
MAX_SUFFIX_LENGTH = 8
#: Unreadable folders that are kept by name: there may be millions.
MAX_UNREADABLE_NAMES = 20
STANDARD_INPUT = "standard input"


def suffix_of(path: str) -> str:
    """Return the suffix of a path in lower case, such as `.jpg`; empty if it has none."""
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if stem else ""


@dataclass
class UnreadableFolders:
    """The folders that could not be read, and patterns without a match: their number, and the first with the reason."""

    count: int = 0
    examples: list[str] = field(default_factory=list)  # such as `photos/private: permission denied`
    has_patterns: bool = False

    def add(self, folder: str, reason: str) -> None:
        """Count a folder."""
        self.count += 1
        if len(self.examples) < MAX_UNREADABLE_NAMES:
            self.examples.append(f"{folder}: {reason}")

    def __str__(self) -> str:
        """Return one line such as `2 folders cannot be read (a: permission denied, b: permission denied)`."""
        examples = ", ".join(self.examples[:3]) + ", …" * (self.count > 3)
        nouns = ("folder or pattern", "folders or patterns") if self.has_patterns else ("folder",)
        return f"{plural(self.count, *nouns)} cannot be read ({examples})"


@dataclass
class _Listing:
    """The entries of a folder that are still to be visited, in reverse order."""

    prefix: str  # the folder's path up to the last slash, as the user could type it
    names: list[bytes] = field(default_factory=list)
    folders: dict[bytes, frozenset[int]] = field(default_factory=dict)  # subfolders among the names → glob states


class Discovery:
    """The image paths of some inputs: iterate once for the paths, or over `paths()`, which also takes missing inputs.

    After that `skipped` counts the other files by suffix, and `unreadable` the folders that could not be read and the
    glob patterns that match nothing.
    An input is a folder, a file, a glob pattern, or `-` for a list of paths on standard input (see `read_names`); or a
    folder, file or pattern of a remote file system, such as `s3://bucket/photos`. Raises UsageError for an empty name;
    iterating raises InceptionError if no input exists.
    """

    def __init__(self, inputs: Sequence[str], stdin: BinaryIO | None = None) -> None:
        self.inputs = tuple(inputs)
        if "" in self.inputs:
            position = self.inputs.index("") + 1
            raise UsageError(f"input {position} is an empty name; give a file or folder (a variable may not be set)")
        self.skipped: Counter[str] = Counter()
        self.unreadable = UnreadableFolders()
        self._stdin = stdin
        self._stdin_digest = hashlib.sha256()
        self._stdin_names = 0

    def require_input(self) -> None:
        """Raise InceptionError if no input exists; patterns and lists are not read."""
        if self.inputs and not any(name == "-" or has_magic(name) or _exists(name) for name in self.inputs):
            raise InceptionError(f"{self.inputs[0]}: no such file or folder; check the name")

    def __iter__(self) -> Iterator[str]:
        self.require_input()
        yield from self.paths()

    def paths(self) -> Iterator[str]:
        """Yield the paths, also if no input exists: a missing file is a path like any other."""
        for name in self.inputs:
            if name == "-":
                for path in self._read_stdin():
                    # A remote path is taken as a file: a request for each line would take too long.
                    yield from (path,) if remote.is_remote(path) else self._from_path(path)
            elif remote.is_remote(name):
                yield from self._from_remote(name)
            elif has_magic(name) and not _exists_locally(name):
                yield from self._from_pattern(name)
            else:
                yield from self._from_path(name)

    @property
    def stdin_sha256(self) -> str | None:
        """The hash of the names that were read from standard input; None if there were none."""
        return self._stdin_digest.hexdigest() if self._stdin_names else None

    def read_stdin_sha256(self) -> str | None:
        """Read the names on standard input without looking for files, and return their hash; None if there are none.

        A terminal, and a closed standard input, have none.
        """
        if "-" in self.inputs and (self._stdin or (sys.stdin is not None and not sys.stdin.isatty())):
            for _ in self._read_stdin():
                pass
        return self.stdin_sha256

    def _read_stdin(self) -> Iterator[str]:
        """Yield the names on standard input."""
        for name in read_names(self._stdin or _standard_input(), STANDARD_INPUT):
            self._stdin_digest.update(name + b"\0")
            self._stdin_names += 1
            yield os.fsdecode(name)

    def _from_path(self, path: str) -> Iterator[str]:
        """Return the images in a folder, or the path itself if it is no folder."""
        if _folder_id(path) is None:
            return iter((path,))
        return self._walk(path if path.endswith("/") else f"{path}/", ())

    def _from_remote(self, name: str) -> Iterator[str]:
        """Return the images in a remote folder or of a remote pattern, or the name itself if it is neither."""
        from pyarrow.fs import FileType

        file_type = _remote_type(name)
        if file_type == FileType.Directory:
            return self._walk_remote(f"{name.rstrip('/')}/", ())
        if file_type == FileType.NotFound and has_magic(name):
            return self._from_pattern(name)
        return iter((name,))

    def _from_pattern(self, pattern: str) -> Iterator[str]:
        """Yield the images that match a glob pattern, and those in folders that match it."""
        parts = (f"{pattern}*" if pattern.endswith("/") else pattern).split("/")  # `a*/`: everything in the folders
        literal = next(i for i, part in enumerate(parts) if has_magic(part))
        prefix, rest = "".join(f"{part}/" for part in parts[:literal]), tuple(filter(None, parts[literal:]))
        matches: Iterator[str] = iter(())
        if remote.is_remote(pattern):
            matches = self._walk_remote(prefix, rest)
        elif _exists_locally(prefix or "."):
            matches = self._walk(prefix, rest)
        unreadable, path = self.unreadable.count, None
        for path in matches:
            yield path
        if path is not None or self.unreadable.count > unreadable:
            return
        # `nowhere/**` matches `nowhere/` for Python.
        if not remote.is_remote(pattern) and any(map(_exists_locally, iglob(pattern, recursive=True))):  # noqa: PTH207
            self.skipped[f"{NO_IMAGE}: {pattern}"] += 1
        elif {"*", "?"}.isdisjoint(pattern):
            yield pattern  # the name of a file with brackets
        else:
            self.unreadable.has_patterns = True
            self.unreadable.add(pattern, "no match")

    def _walk(self, prefix: str, pattern: tuple[str, ...]) -> Iterator[str]:
        """Yield the matching images below a folder, sorted by bytes; each once, whatever links lead to its folder."""
        states = frozenset((0,))
        visited = {_folder_id(prefix or "."): states}  # the states of the pattern in which a folder was visited
        stack = [self._scan(prefix, pattern, states)]  # no recursion: folders may be nested 2,000 deep
        while stack:
            listing = stack[-1]
            if not listing.names:
                stack.pop()
                continue
            name = listing.names.pop()
            path = listing.prefix + os.fsdecode(name)
            if name not in listing.folders:
                yield path
                continue
            states, identity = listing.folders[name], _folder_id(path)
            earlier = visited.get(identity, frozenset()) if identity else frozenset()  # None: scanning reports why
            if not states <= earlier:
                visited[identity] = earlier | states
                stack.append(self._scan(f"{path}/", pattern, states, earlier))

    def _scan(
        self, prefix: str, pattern: tuple[str, ...], states: frozenset[int], earlier: frozenset[int] = frozenset()
    ) -> _Listing:
        """Return the matching images and subfolders of a folder; count the other files.

        What matched in the `earlier` states of the pattern, by another link to the folder, is left out.
        """
        listing = _Listing(prefix)
        try:
            with os.scandir(os.fsencode(prefix or ".")) as entries:
                for entry in entries:
                    name = os.fsdecode(entry.name)
                    reached = _advance(pattern, states, name)
                    if not reached:
                        continue
                    if _is_folder(entry):
                        listing.folders[entry.name] = reached
                        listing.names.append(entry.name)
                    elif len(pattern) in reached - _advance(pattern, earlier, name) and self._is_image(name):
                        listing.names.append(entry.name)
        except NotADirectoryError:
            pass  # `photo.jpg/*` matches nothing
        except OSError as error:
            self.unreadable.add(prefix.rstrip("/") or prefix or ".", os_reason(error))
        listing.names.sort(reverse=True)
        return listing

    def _walk_remote(
        self, prefix: str, pattern: tuple[str, ...], states: frozenset[int] = frozenset((0,))
    ) -> Iterator[str]:
        """Yield the matching images below a remote folder, in the same order and by the same rules as `_walk`."""
        from pyarrow.fs import FileSelector, FileType

        store, folder = remote.open_store(prefix)
        with remote.remote_errors(prefix):
            entries = store.get_file_info(FileSelector(folder, allow_not_found=True))
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.base_name)):
            reached = _advance(pattern, states, entry.base_name)
            if not reached:
                continue
            if entry.type == FileType.Directory:
                yield from self._walk_remote(f"{prefix}{entry.base_name}/", pattern, reached)
            elif len(pattern) in reached and self._is_image(entry.base_name):
                yield f"{prefix}{entry.base_name}"

    def _is_image(self, name: str) -> bool:
        """Return whether a file's suffix is that of an image; count the file if not."""
        if _has_image_suffix(name):
            return True
        suffix = suffix_of(name)
        countable = suffix[1:].isalnum() and len(suffix) <= MAX_SUFFIX_LENGTH + 1
        self.skipped[suffix if countable else NO_SUFFIX] += 1
        return False


def no_images(discovery: Discovery) -> NoImages:
    """Return the error for inputs without images: what was skipped, by suffix and count."""
    names = [STANDARD_INPUT if name == "-" else name for name in discovery.inputs]
    inputs = ", ".join(names[:3]) + f" and {len(names) - 3:,} more" * (len(names) > 3)
    problems = [str(discovery.unreadable)] * bool(discovery.unreadable.count)
    skipped = Counter({what: count for what, count in discovery.skipped.items() if not what.startswith(NO_IMAGE)})
    if skipped:
        problems.append("skipped " + ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(10)))
    files = "image files (.jpg, .png, .webp, …)" if skipped else "image files"
    return NoImages(
        f"no image in {inputs}: {'; '.join(problems) or 'no files there'}; give {files}, or a folder that contains some"
    )


def _standard_input() -> BinaryIO:
    # Python has no `sys.stdin` if the program was started with standard input closed, as some schedulers do.
    if not sys.stdin:
        raise InceptionError(f"{STANDARD_INPUT} is closed; give a list of paths there, or files and folders as inputs")
    return sys.stdin.buffer


def _has_image_suffix(name: str) -> bool:
    suffix = suffix_of(name)
    return suffix in SUPPORTED_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES


def _exists(name: str) -> bool:
    """Return whether a file or folder of this name exists, here or in a remote file system."""
    if not remote.is_remote(name):
        return _exists_locally(name)
    return bool(_remote_type(name).value)  # FileType.NotFound is 0


def _remote_type(name: str) -> "FileType":
    """Return what a remote name is: a file, a folder or nothing."""
    store, path = remote.open_store(name)
    with remote.remote_errors(name):
        return store.get_file_info(path).type


def _exists_locally(path: str) -> bool:
    """Return whether a path exists. A dangling link does, and so does a path whose status may not be read."""
    try:
        Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def _folder_id(path: str) -> tuple[int, int] | None:
    """Return (device, inode) of a folder, following links; None for anything else."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Return whether an entry is a folder or a link to one."""
    try:
        return entry.is_dir()
    except OSError as error:  # of the link's target; a link to itself is no folder
        # Decoding reports why an image cannot be read. Anything else may be a folder: scanning it reports the reason.
        return error.errno != errno.ELOOP and not _has_image_suffix(os.fsdecode(entry.name))


def _advance(pattern: tuple[str, ...], states: frozenset[int], name: str) -> frozenset[int]:
    """Return the states that a glob pattern can be in after one more component of a path; none: no match.

    A state is the number of the pattern's components that are matched; len(pattern) is a full match, and stays one for
    everything below. `**` matches any number of folders, also none. Hidden files are matched only by a component that
    begins with a dot, SYSTEM_FOLDERS only by their exact name.
    """
    special = name.startswith(".") or name in SYSTEM_FOLDERS
    reached = set()
    for state in _skip_stars(pattern, states):
        if state == len(pattern) or pattern[state] == "**":
            if not special:
                reached.add(state)
        elif _matches(pattern[state], name):
            reached.add(state + 1)
    return _skip_stars(pattern, reached)


def _matches(component: str, name: str) -> bool:
    """Return whether a component of a glob pattern matches a name."""
    if name in SYSTEM_FOLDERS:
        return component == name
    return fnmatchcase(name, component) and (component.startswith(".") or not name.startswith("."))


def _skip_stars(pattern: tuple[str, ...], states: Iterable[int]) -> frozenset[int]:
    """Return the states and those after a `**` that matches no folder."""
    reached = set(states)
    for i, part in enumerate(pattern):
        if part == "**" and i in reached:
            reached.add(i + 1)
    return frozenset(reached)
