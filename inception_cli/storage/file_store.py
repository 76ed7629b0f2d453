"""One CSV, JSONL or Parquet file of predictions: part file, lock, resume, publish.

    preds.csv.part.inputs         the paths, each followed by a NUL; a resumed run does not search folders again
    preds.csv.part.json           the manifest of the unfinished run
    preds.csv.part                header and rows in the order of the list; locked while a run writes it
    preds.csv.part.made           JSONL or Parquet converted from these rows (only for preds.jsonl and preds.parquet)
    preds.csv, preds.csv.json     rows and manifest, published

Arrays, in files of any folder, are written before the rows of the same inputs and renamed before them (array_store).
The files are created in this order. Publishing converts the rows if necessary, completes the manifest, renames arrays
and rows (a converted file is renamed, then the part file is emptied), removes the list and renames the manifest. A kill
at any moment leaves one of these states:

    part     manifest      what happened, and what the next start does
    empty    none          nothing had started: a fresh start
    empty    unfinished    killed before the header: resumes with no rows
    rows     unfinished    interrupted: resumes after the last whole batch (a converted file is made again)
    rows     finished      killed before the rows were renamed: published now
                           and no converted file: killed after it was renamed: published now
    empty    finished      killed after the rows were renamed: published now
    rows     none          the manifest is lost: refused; --restart starts again

Rows are read and written through one descriptor: closing any other one of the file would release the lock (POSIX).
"""

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from inception_cli.errors import InceptionError, excerpt, plural
from inception_cli.files.atomic import beside, lock, remove_temporaries, replacing, resolve_output, sync_folder, writing
from inception_cli.files.hashing import sha256
from inception_cli.predictions.formats import check_suffix, convert, csv_header, parse_csv, to_csv
from inception_cli.predictions.prediction import Prediction, columns_of, reason
from inception_cli.predictions.text import escape_bytes
from inception_cli.storage.array_store import ArrayFile, array_width, publish_array
from inception_cli.storage.input_list import InputList, encode
from inception_cli.storage.manifest_json import FORMAT_VERSION
from inception_cli.storage.store import FileState, Manifest, differences

if TYPE_CHECKING:
    import numpy as np

#: Seconds between two syncs of the part file: what a power cut may cost. A kill costs nothing.
SYNC_SECONDS = 10.0


class _Damaged(InceptionError):
    """A file of an interrupted run is damaged or missing, so that the run cannot resume."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file} {problem}: the interrupted run cannot resume; --restart starts it again")


class FileStore:
    """The file `out` of a run, locked while this is open; a context manager (see RunStore)."""

    def __init__(self, out: Path, descriptor: int, arrays: Mapping[str, Path]) -> None:
        self.out, self.name = out, str(out)
        self.manifest: Manifest | None = None
        self.finished = False
        self._inputs = beside(out, ".part.inputs")
        self._part = beside(out, ".part")
        self._part_manifest = beside(out, ".part.json")
        self._suffix = check_suffix(out)
        self._converted = beside(out, ".part.made") if self._suffix != ".csv" else None
        self._descriptor = descriptor
        self._state = FileState(0, "", "")
        self._rows = self._size = 0  # whole rows in the part file, and the bytes of header and rows
        self._paths = InputList(b"")
        self._synced = time.monotonic()
        self._array_paths = {name: str(file.absolute()) for name, file in arrays.items()}
        self._arrays: list[ArrayFile] = []  # open ones, in the order of `run.arrays`

    @classmethod
    def open(
        cls, out: Path, *, restart: bool = False, force: bool = False, arrays: Mapping[str, Path] | None = None
    ) -> Self:
        """Lock the run that writes `out` and the `arrays` (by name), and find out how far it got.

        `restart` discards an interrupted run (not one that only lacks its publishing); `force` allows replacing a
        finished file. Raises InceptionError, leaving no file behind, when another run is writing `out`, when it is
        finished, cannot be written, or is damaged.
        """
        out = resolve_output(out)
        check_suffix(out)
        resolved = {name: resolve_output(file, f"{name}.npy") for name, file in (arrays or {}).items()}
        store = cls(out, lock(beside(out, ".part")), resolved)
        try:
            with writing(out):
                store._find_state(restart, force)
            if not store.finished:
                store._open_arrays(restart)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error and not self.manifest and not self._rows and self._descriptor >= 0:
            with suppress(OSError):
                self._discard()  # a new run that failed before its first row leaves no file
        self.close()

    def open_inputs(self, discover: Callable[[], Iterable[str]]) -> InputList:
        """Return the list of inputs: that of the interrupted run, else the discovered one, which is written first."""
        with writing(self._inputs):
            if self.manifest:
                self._check_inputs()
            else:
                self._write_inputs(discover())
            self._paths = InputList.open(self._inputs)
            if len(self._paths) != self._state.images:
                problem = f"is damaged (file.images is {self._state.images}, but the list has {len(self._paths)})"
                raise _Damaged(self._part_manifest, problem)
            return self._paths

    def begin(self, manifest: Manifest) -> Counter[tuple[str, str]]:
        """Start the run, or resume it after its last whole batch; return the rows by status and reason."""
        for array, name in zip(self._arrays, manifest.run.arrays, strict=True):
            array.set_shape(self._state.images, array_width(manifest.run, name), manifest.run.array_type)
        with writing(self._part):
            counts: Counter[tuple[str, str]] = Counter()
            if self.manifest:
                most = min((array.count_rows() for array in self._arrays), default=self._state.images)
                self._find_whole_batches(manifest.run.images_per_batch, most)
                counts.update(self._check_rows())
                os.ftruncate(self._descriptor, self._size)
            else:
                self._state = replace(self._state, header=_header(manifest), arrays=self._array_paths)
            if not self.manifest or manifest != self.manifest:
                self._write_manifest(manifest)
            for array in self._arrays:  # after the manifest: without one their rows would be those of another run
                array.begin(self._rows)
            if not self._size:
                self._append(self._state.header.encode())
                os.fsync(self._descriptor)
            return counts

    def pending(self) -> list[range]:
        """Return the positions of the inputs without a row."""
        return [range(self._rows, self._state.images)] if self._rows < self._state.images else []

    def write(self, first: int, predictions: Sequence[Prediction], arrays: "Sequence[np.ndarray]" = ()) -> None:
        """Append the rows of the next inputs in one write; a failed write leaves the rows before it untouched.

        Their rows of the arrays are synced before.
        """
        if first != self._rows:
            raise ValueError(f"rows from {first} on, but the next row is {self._rows}")
        for array, rows in zip(self._arrays, arrays, strict=True):
            array.write(first, rows)
        with writing(self._part):
            self._append(to_csv(predictions, *self._columns()))
            self._rows += len(predictions)
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()

    def update(self, manifest: Manifest) -> None:
        """Write what has changed in the manifest during the run."""
        with writing(self._part):
            self._write_manifest(manifest)

    def publish(self, manifest: Manifest) -> None:
        """Give rows and manifest their final names; InceptionError unless every input has its row."""
        rows = sum(1 for _ in _row_ends(self._lines())) - 1
        if rows != self._state.images:
            raise InceptionError(
                f"{self._part}: {plural(rows, 'row')} for {plural(self._state.images, 'input')}; use --restart"
            )
        with writing(self.out):
            os.fsync(self._descriptor)
            size = self._convert(self._converted) if self._converted else self._size
            self._state = replace(self._state, bytes=size)
            self._write_manifest(manifest)
            self._rename(self._size)

    def close(self) -> None:
        """Release the lock; a run that never started leaves no file."""
        if self._descriptor < 0:
            return
        while self._arrays:
            self._arrays.pop().close()
        with suppress(OSError):
            if not os.fstat(self._descriptor).st_size:
                with suppress(OSError):  # where only these two names are too long
                    if not self._part_manifest.exists():
                        self._inputs.unlink(missing_ok=True)
                self._part.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    # ── The state on opening ─────────────────────────────────────────────────────────────────────────────────────────

    def _find_state(self, restart: bool, force: bool) -> None:
        for file in filter(None, (self._inputs, self._part_manifest, self._converted)):
            remove_temporaries(file)  # of a killed run: this one holds the lock
        try:
            manifest = self._read_manifest()
            size = os.fstat(self._descriptor).st_size
            if manifest and self._state.bytes is not None:
                self._complete_publishing(manifest, size, force)
                return
            if manifest is None and size:
                raise _Damaged(self._part_manifest, "is missing")
        except _Damaged:
            if not restart:
                raise
        self._refuse_to_replace([self.out, *map(Path, self._array_paths.values())], force)
        if restart:
            self._discard()
        else:
            self.manifest = manifest

    def _open_arrays(self, restart: bool) -> None:
        """Lock the arrays; InceptionError if the interrupted run writes others, or one of them is of another run."""
        if self.manifest and (changed := differences(self._state.arrays, self._array_paths)):
            changes = "; ".join(excerpt(change, 70) for change in changed)
            raise InceptionError(
                f"{self.out}: its interrupted run writes other arrays ({changes}); give the same ones, or start again "
                "with --restart"
            )
        for path in self._array_paths.values():
            self._arrays.append(ArrayFile.open(Path(path), replace=restart or self.manifest is not None))

    def _read_manifest(self) -> Manifest | None:
        try:
            manifest = Manifest.decode(self._part_manifest.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise _Damaged(self._part_manifest, f"is damaged ({error})") from error
        if manifest.file is None:
            older = manifest.format_version < FORMAT_VERSION
            problem = "was written by an older version of inception" if older else "is damaged (file is null)"
            raise _Damaged(self._part_manifest, problem)
        self._state = manifest.file
        return manifest

    def _complete_publishing(self, manifest: Manifest, size: int, force: bool) -> None:
        """Finish a publishing that was interrupted."""
        unnamed = self._converted or self._part if size else None  # the rows before they get their final name
        if unnamed and unnamed.exists():
            arrays = [*map(Path, self._state.arrays.values())]
            self._refuse_to_replace([self.out, *(file for file in arrays if beside(file, ".part").exists())], force)
            for file in arrays:
                if not file.exists() and not beside(file, ".part").exists():
                    raise _Damaged(file, "is missing")
            if unnamed.stat().st_size != self._state.bytes:
                raise _Damaged(unnamed, f"has another size than when it was written ({self._recorded('bytes')})")
        elif not self.out.exists() or self.out.stat().st_size != self._state.bytes:
            raise _Damaged(self.out, f"has another size than when it was published ({self._recorded('bytes')})")
        else:
            os.close(lock(self.out))  # that run may still be running: it holds the rows under their final name
        self._rename(size)
        self.manifest, self.finished = manifest, True
        self.close()  # the locked file is the published one now: nothing may be written through the descriptor

    def _rename(self, size: int) -> None:
        """Give arrays, rows and manifest their final names; `size` is that of the part file."""
        for path in self._state.arrays.values():
            publish_array(Path(path))
        if size and self._converted:
            if self._converted.exists():
                self._converted.replace(self.out)
                sync_folder(self.out)
            os.ftruncate(self._descriptor, 0)
        elif size:
            self._part.replace(self.out)
        self._inputs.unlink(missing_ok=True)
        self._part_manifest.replace(beside(self.out, ".json"))
        sync_folder(self.out)

    def _refuse_to_replace(self, files: Iterable[Path], force: bool) -> None:
        for file in files:
            if file.exists() and not force:
                raise InceptionError(f"{file} exists; --force replaces it")

    def _discard(self) -> None:
        # The manifest first: a finished one beside no rows would be taken for that of the published file.
        self._part_manifest.unlink(missing_ok=True)
        os.ftruncate(self._descriptor, 0)
        self._inputs.unlink(missing_ok=True)
        if self._converted:
            self._converted.unlink(missing_ok=True)
        for array in self._arrays:
            array.discard()

    # ── List, manifest, rows ─────────────────────────────────────────────────────────────────────────────────────────

    def _write_inputs(self, paths: Iterable[str]) -> None:
        images, digest = 0, hashlib.sha256()
        with replacing(self._inputs) as file:
            for encoded in map(encode, paths):
                file.write(encoded)
                digest.update(encoded)
                images += 1
        self._state = FileState(images, digest.hexdigest(), "")

    def _check_inputs(self) -> None:
        try:
            digest = sha256(self._inputs)
        except FileNotFoundError as error:
            raise _Damaged(self._inputs, "is missing") from error
        if digest != self._state.inputs_sha256:
            raise _Damaged(self._inputs, f"is damaged ({self._recorded('inputs_sha256')} is of another list)")

    def _recorded(self, field: str) -> str:
        return f"file.{field} in {self._part_manifest.name}"

    def _write_manifest(self, manifest: Manifest) -> None:
        with replacing(self._part_manifest) as file:
            file.write(replace(manifest, file=self._state).encode())

    def _find_whole_batches(self, images_per_batch: int, most: int) -> None:
        """Find the rows to keep, at most `most`: the batches of a resumed run are those of an uninterrupted one."""
        header = self._state.header.encode()
        start = os.pread(self._descriptor, len(header), 0)
        if start != header and not header.startswith(start):
            raise _Damaged(self._part, "is damaged")
        rows = self._rows = self._size = 0
        for rows, end in enumerate(_row_ends(self._lines())):  # the end of row 0 is that of the header
            if rows <= most and (rows % images_per_batch == 0 or rows == self._state.images):
                self._rows, self._size = rows, end
        if rows > self._state.images:
            raise _Damaged(self._part, "holds more rows than there are inputs")

    def _check_rows(self) -> Iterator[tuple[str, str]]:
        """Yield status and reason of the rows to keep; _Damaged for a row that is not that of its input in the list."""
        for position, row in enumerate(islice(self._read_rows(), self._rows)):
            if row.path != (expected := escape_bytes(self._paths[position])):
                raise _Damaged(self._part, f"was edited: row {position + 1} is for {row.path}, not for {expected}")
            yield row.status, reason(row.error)

    def _convert(self, converted: Path) -> int:
        """Convert the rows to JSONL or Parquet, and return the size of the file."""
        with replacing(converted) as file:
            k, decided = self._columns()
            convert(self._read_rows(), k, file, self._suffix, decided)
        return converted.stat().st_size

    def _columns(self) -> tuple[int, bool]:
        """Return the number of classes per row, and whether rows have a decision."""
        return columns_of(self._state.header.rstrip("\n").split(","))

    def _read_rows(self) -> Iterator[Prediction]:
        """Yield the rows of the part file; to be read to the end before the next write."""
        return parse_csv(self._lines(), self._part)

    def _lines(self) -> Iterator[bytes]:
        os.lseek(self._descriptor, 0, os.SEEK_SET)  # writing appends, wherever reading stops
        with open(self._descriptor, "rb", closefd=False) as part:
            yield from part

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)


def _header(manifest: Manifest) -> str:
    return csv_header(manifest.run.top_k, bool(manifest.run.thresholds)).decode()


def _row_ends(lines: Iterable[bytes]) -> Iterator[int]:
    """Yield the offset after each whole row, header included.

    A newline between quotes does not end a row. A NUL, which no row holds, ends the reading: a machine that crashes may
    leave NULs in place of rows that had not reached the disk.
    """
    offset = quotes = 0
    for line in lines:
        if b"\0" in line or not line.endswith(b"\n"):
            return
        offset += len(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield offset
