"""A run that writes a file is killed at every moment, and resumes.

Run as a program, this file makes killed runs: a small process is forked sooner than that of the tests. It prints a
line when it has done what a line of its standard input, with tabs, says. "FOLDER MODE NAME": start a run that writes
NAME in FOLDER/1, FOLDER/2, … and kill it (SIGKILL) before its 1st, 2nd, … call that changes the disk, until one
finishes. "FOLDER again NAME": resume the run in each FOLDER/N-MOMENT, and kill it at that moment.
"""

import errno
import fcntl
import gc
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import records
from hypothesis import given
from hypothesis import strategies as st
from limits import file_size_limit
from records import MANIFEST_0_1, new_manifest

import inception_cli
from inception_cli.errors import InceptionError
from inception_cli.predictions.formats import convert, csv_header, parse_csv, to_csv
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage import file_store as module
from inception_cli.storage.file_store import FileStore
from inception_cli.storage.store import FileState, Manifest, read_manifest

# Names for which a cut in the middle of a row matters: a newline, quotes, two-byte letters, bytes that are not UTF-8.
NAMES = [
    "a.jpg",
    'two\n"lines", one.jpg',
    "grün.jpg",
    b"\xff\xc3.jpg".decode("utf-8", "surrogateescape"),
    "e,f.jpg",
] * 3
BATCH = 4  # so the last of the 15 is in a shorter batch
MANIFEST = new_manifest(BATCH)
#: Arrays, and the manifest of a run that writes them.
ARRAYS = {
    name: np.arange(15 * columns, dtype=np.float32).reshape(15, columns)
    for name, columns in (("features", 2048), ("scores", 10))
}
ARRAY_MANIFEST = replace(MANIFEST, run=replace(MANIFEST.run, arrays=("features", "scores")))
ROOT = str(Path(inception_cli.__file__).parents[1])
HELPERS = str(Path(records.__file__).parent)


def rows(names: list[str]) -> list[Prediction]:
    return [Prediction(name, "ok", (1,), (f'"{at}", a label',), (0.5,)) for at, name in enumerate(names)]


ROWS = rows(NAMES)
LIST = b"".join(os.fsencode(name) + b"\0" for name in NAMES)
CSV = csv_header(1) + to_csv(ROWS, 1)


@cache
def uninterrupted(suffix: str) -> bytes:
    """Return the file that an uninterrupted run publishes."""
    if suffix == ".csv":
        return CSV
    file = BytesIO()
    convert(parse_csv(CSV.splitlines(keepends=True), Path("preds.csv")), 1, file, suffix)
    return file.getvalue()


def start(store: FileStore, manifest: Manifest = MANIFEST) -> int:
    """Begin or resume the run; return the number of rows that are there."""
    assert list(store.open_inputs(lambda: NAMES)) == NAMES
    if store.manifest:
        assert store.manifest.run == manifest.run
    return sum(store.begin(store.manifest or manifest).values())


def write_batches(store: FileStore, batches: int = 99, manifest: Manifest = MANIFEST) -> None:
    """Write the pending rows, at most so many batches."""
    starts = [first for positions in store.pending() for first in positions[::BATCH]]
    for first in starts[:batches]:
        last = first + BATCH
        store.write(first, ROWS[first:last], [ARRAYS[name][first:last] for name in manifest.run.arrays])


def run(out: Path, **options: Any) -> None:
    """Run or resume the whole job, as the command does."""
    with FileStore.open(out, **options) as store:
        if store.finished:
            return
        manifest = ARRAY_MANIFEST if options.get("arrays") else MANIFEST
        start(store, manifest)
        write_batches(store, manifest=manifest)
        store.publish(manifest.with_result({"ok": len(NAMES)}, 2.5))


def interrupt(out: Path, batches: int = 2) -> None:
    """Run the job and stop after some batches."""
    with FileStore.open(out) as store:
        start(store)
        write_batches(store, batches)


def beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


def with_arrays(out: Path) -> dict[str, Any]:
    """Return the options of a run that also writes arrays."""
    return {"arrays": {name: out.with_name(f"{name}.npy") for name in ARRAYS}}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


# Killed runs


def kill_at(moment: int) -> None:
    """Send SIGKILL to this process before its moment-th call that changes the disk; in the middle of a write."""
    count = itertools.count(1)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def killing(*arguments: Any, **options: Any) -> Any:
            if next(count) == moment:
                if call.__name__ in ("write", "pwrite"):
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2], *arguments[2:])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return killing

    for name in ("open", "write", "pwrite", "posix_fallocate", "replace", "unlink", "fsync", "ftruncate", "close"):
        setattr(os, name, deadly(getattr(os, name)))


def run_and_kill(out: Path, moment: int, **options: Any) -> bool:
    """Run the job in a child process that is killed at that moment; return whether it was, or had finished before."""
    child = os.fork()
    if child == 0:
        kill_at(moment)
        try:
            run(out, **options)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def prepare_and_kill(out: Path, moment: int, mode: str) -> bool:
    """Kill a run in an empty folder, one that replaces a file, or one that restarts an interrupted run."""
    out.parent.mkdir()
    if mode == "force":
        out.write_bytes(b"precious")
    if mode == "restart":
        interrupt(out)
    return run_and_kill(out, moment, **options_of(mode, out))


def options_of(mode: str, out: Path) -> dict[str, Any]:
    """Return the options of a run in this mode."""
    return with_arrays(out) if mode == "arrays" else {} if mode == "plain" else {mode: True}


def make_killed_runs(folder: Path, mode: str, name: str) -> None:
    """Do what the head of this file says, as a program."""
    uninterrupted(Path(name).suffix)  # imports happen once, in the parent
    if mode == "again":
        for each in folder.iterdir():
            run_and_kill(each / name, int(each.name.partition("-")[2]))
    else:
        moments = itertools.count(1)
        while prepare_and_kill(folder / str(moment := next(moments)) / name, moment, mode):
            pass


KillRuns = Callable[[Path, str, str], None]


@pytest.fixture(scope="module")
def kill_runs() -> Iterator[KillRuns]:
    """Make killed runs in a process of its own (see the head of this file)."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((ROOT, HELPERS))}
    with subprocess.Popen([sys.executable, __file__], env=environment, stdin=-1, stdout=-1, text=True) as process:

        def request(folder: Path, mode: str, name: str) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            print(folder, mode, name, sep="\t", file=process.stdin, flush=True)
            assert process.stdout.readline() == "done\n"

        yield request
        process.communicate()


def check_that_it_resumes(out: Path, **options: Any) -> None:
    published = beside(out, ".json").exists() and not beside(out, ".part.json").exists()
    if published and not options.get("force"):
        with pytest.raises(InceptionError, match="exists; --force replaces it"):
            run(out, **options)
    else:
        run(out, **options)

    assert out.read_bytes() == uninterrupted(out.suffix)
    arrays = [path.name for path in options.get("arrays", {}).values()]
    assert names_in(out.parent) == sorted([out.name, f"{out.name}.json", *arrays])
    for name, path in options.get("arrays", {}).items():
        expected = BytesIO()
        np.save(expected, ARRAYS[name])
        assert path.read_bytes() == expected.getvalue()
    manifest, size = read_manifest(out), len(uninterrupted(out.suffix))
    assert manifest
    assert manifest.file
    assert (manifest.n, manifest.file.images, manifest.file.bytes) == (15, 15, size)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("plain", "preds.csv"), ("force", "preds.csv"), ("restart", "preds.csv")),
        *(("plain", "preds.jsonl"), ("force", "preds.parquet"), ("restart", "preds.jsonl")),
        ("arrays", "preds.csv"),
    ],
)
def test_a_run_killed_at_any_moment_resumes(kill_runs: KillRuns, tmp_path: Path, mode: str, name: str) -> None:
    kill_runs(tmp_path, mode, name)

    moments = list(tmp_path.iterdir())
    assert len(moments) > (25 if name == "preds.csv" else 30)
    for folder in moments:
        check_that_it_resumes(folder / name, **options_of(mode, folder / name))


@pytest.mark.parametrize("name", ["preds.csv", "preds.jsonl"])
def test_a_run_killed_twice_resumes(kill_runs: KillRuns, tmp_path: Path, name: str) -> None:
    kill_runs(tmp_path, "plain", name)
    for folder in list(tmp_path.iterdir()):
        for moment in (2, 5, 9):
            shutil.copytree(folder, tmp_path / f"{folder.name}-{moment}")
        shutil.rmtree(folder)
    kill_runs(tmp_path, "again", name)

    for folder in tmp_path.iterdir():
        check_that_it_resumes(folder / name)


def test_a_killed_restart_resumes_or_is_refused_with_the_remedy(kill_runs: KillRuns, tmp_path: Path) -> None:
    kill_runs(tmp_path, "restart", "preds.csv")
    refused = 0
    for folder in tmp_path.iterdir():
        before = names_in(folder)
        try:
            check_that_it_resumes(folder / "preds.csv")
        except InceptionError:
            refused += 1
            with pytest.raises(InceptionError, match=r"part\.json is missing.*--restart"):
                run(folder / "preds.csv")
            assert names_in(folder) == before

    assert refused < 3  # only between the removal of the manifest and that of the rows


# An uninterrupted run


def test_an_uninterrupted_run_leaves_rows_and_manifest(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"

    run(out)

    assert out.read_bytes() == CSV
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]
    assert read_manifest(out) == replace(
        MANIFEST.with_result({"ok": 15}, 2.5),
        file=FileState(15, hashlib.sha256(LIST).hexdigest(), csv_header(1).decode(), len(CSV)),
    )


def test_during_a_run_the_list_holds_every_path_and_the_rows_are_whole(tmp_path: Path) -> None:
    with FileStore.open(tmp_path / "preds.csv") as store:
        assert start(store) == 0
        write_batches(store, 1)

        assert (tmp_path / "preds.csv.part.inputs").read_bytes() == LIST
        assert names_in(tmp_path) == ["preds.csv.part", "preds.csv.part.inputs", "preds.csv.part.json"]
        assert (tmp_path / "preds.csv.part").read_bytes() == csv_header(1) + to_csv(ROWS[:4], 1)


def test_a_run_without_images_leaves_no_file(tmp_path: Path) -> None:
    with FileStore.open(tmp_path / "preds.csv") as store:
        assert list(store.open_inputs(list)) == []

    assert names_in(tmp_path) == []


def test_a_list_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    def discover() -> Iterator[str]:
        yield "a.jpg"
        raise InceptionError("no such folder")

    with pytest.raises(InceptionError, match="no such folder"), FileStore.open(tmp_path / "preds.csv") as store:
        store.open_inputs(discover)

    assert names_in(tmp_path) == []


def test_a_run_that_lacks_rows_is_not_published(tmp_path: Path) -> None:
    with FileStore.open(tmp_path / "preds.csv") as store:
        start(store)
        write_batches(store, 1)

        with pytest.raises(InceptionError, match="4 rows for 15 inputs"):
            store.publish(MANIFEST)

    assert not (tmp_path / "preds.csv").exists()


def test_rows_are_written_in_the_order_of_the_list_alone(tmp_path: Path) -> None:
    with FileStore.open(tmp_path / "preds.csv") as store:
        start(store)

        with pytest.raises(ValueError, match="rows from 4 on, but the next row is 0"):
            store.write(4, ROWS[4:8])

        assert store.pending() == [range(15)]


def test_what_changes_during_a_run_is_in_the_manifest_of_an_interrupted_run(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    with FileStore.open(out) as store:
        start(store)
        write_batches(store, 1)
        store.update(replace(MANIFEST, reduced_batch=2))

    with FileStore.open(out) as store:
        assert store.manifest
        assert store.manifest.reduced_batch == 2
        assert start(store) == 4


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "preds.csv"
    link.symlink_to(tmp_path / "elsewhere" / "real.csv")

    run(link)

    assert link.is_symlink()
    assert link.read_bytes() == CSV
    assert names_in(tmp_path / "elsewhere") == ["real.csv", "real.csv.json"]


# Resuming


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (1, 4), (3, 12), (4, 15)])
def test_whole_batches_are_kept(tmp_path: Path, written: int, kept: int) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out, written)

    with FileStore.open(out) as store:
        assert start(store) == kept
        assert store.pending() == ([range(kept, 15)] if kept < 15 else [])
        assert beside(out, ".part").read_bytes() == csv_header(1) + to_csv(ROWS[:kept], 1)


def test_rows_of_the_interrupted_run_are_counted_by_status_and_reason(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    with FileStore.open(out) as store:
        store.open_inputs(lambda: NAMES)
        store.begin(MANIFEST)
        store.write(0, [Prediction(NAMES[0], "corrupt", error="damaged image: byte 7"), *ROWS[1:BATCH]])

    with FileStore.open(out) as store:
        store.open_inputs(lambda: NAMES)
        assert store.begin(MANIFEST) == {("corrupt", "damaged image"): 1, ("ok", ""): 3}


def test_rows_can_be_written_after_some_were_read(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)

    with FileStore.open(out) as store:
        start(store)
        next(store._read_rows())
        write_batches(store)
        store.publish(MANIFEST)

    assert out.read_bytes() == CSV


def test_a_part_file_cut_at_any_byte_resumes(tmp_path: Path) -> None:
    out, part = tmp_path / "preds.csv", tmp_path / "preds.csv.part"
    interrupt(out, 4)
    for length in range(len(CSV) + 1):
        part.write_bytes(CSV[:length])
        with FileStore.open(out) as store:
            kept = start(store)

            assert kept % BATCH == 0 or kept == len(NAMES)
            assert kept <= CSV[:length].count(b".jpg")
            assert part.read_bytes() == csv_header(1) + to_csv(ROWS[:kept], 1)


def test_rows_that_a_crash_of_the_machine_left_as_nuls_are_written_again(tmp_path: Path) -> None:
    out, part = tmp_path / "preds.csv", tmp_path / "preds.csv.part"
    interrupt(out, 4)
    whole = len(csv_header(1) + to_csv(ROWS[:9], 1))
    part.write_bytes(CSV[:whole] + b"\0" * 50 + CSV[whole + 50 :])

    with FileStore.open(out) as store:
        assert start(store) == 8


@given(st.lists(st.text(st.sampled_from('a"\n,')), min_size=1), st.data())
def test_rows_are_counted_with_any_names(names: list[str], data: st.DataObject) -> None:
    lines = [csv_header(1), *(to_csv([row], 1) for row in rows(names))]
    ends = list(itertools.accumulate(map(len, lines)))
    length = data.draw(st.integers(0, ends[-1]))

    whole = list(module._row_ends(b"".join(lines)[:length].splitlines(keepends=True)))

    assert whole == [end for end in ends if end <= length]


# Damage


@pytest.mark.parametrize(
    ("suffix", "damage", "message"),
    [
        (".part.json", None, "part.json is missing"),
        (".part.json", b"", "part.json is damaged"),
        (".part.json", b'{"run": {}', "part.json is damaged"),
        (".part.json", b"[]", "part.json is damaged"),
        (".part.json", b"{}", "part.json is damaged"),
        (".part.json", b"\xff\xfe", "part.json is damaged"),
        (".part.json", b"[" * 100_000, "part.json is damaged"),
        (".part.json", json.dumps(MANIFEST_0_1).encode(), "part.json was written by an older version"),
        (".part.inputs", None, "inputs is missing"),
        (".part.inputs", b"", "inputs is damaged"),
        (".part.inputs", b"other.jpg\0", "inputs is damaged"),
        (".part", b"something else", "part is damaged"),
        (".part", CSV + to_csv(rows(["more"]), 1), "more rows than there are inputs"),
    ],
)
def test_a_damaged_run_is_refused_with_the_remedy(
    tmp_path: Path, suffix: str, damage: bytes | None, message: str
) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)
    file = beside(out, suffix)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    before = contents_of(tmp_path)

    with pytest.raises(InceptionError, match=message) as error:
        run(out)

    assert "--restart starts it again" in str(error.value)
    assert "\n" not in str(error.value)
    assert contents_of(tmp_path) == before
    run(out, restart=True)
    assert out.read_bytes() == CSV
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


def test_an_empty_part_file_without_a_manifest_is_a_fresh_start(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    beside(out, ".part").touch()
    beside(out, ".part.inputs").write_bytes(b"stale.jpg\0")

    run(out)

    assert out.read_bytes() == CSV


@pytest.mark.parametrize("name", ["preds.jsonl", "preds.parquet"])
def test_a_converted_file_that_is_damaged_or_missing_is_not_published(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    run(out)
    beside(out, ".json").replace(beside(out, ".part.json"))
    beside(out, ".part").write_bytes(CSV)
    converted = out.rename(beside(out, ".part.made"))

    converted.write_bytes(uninterrupted(out.suffix)[:-1])
    with pytest.raises(InceptionError, match="made has another size than when it was written"):
        run(out)
    converted.unlink()
    with pytest.raises(InceptionError, match=f"{name} has another size than when it was published"):
        run(out)

    assert not out.exists()
    run(out, restart=True)
    assert out.read_bytes() == uninterrupted(out.suffix)
    assert names_in(tmp_path) == [name, f"{name}.json"]


def test_a_link_to_a_file_with_another_suffix_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "preds.jsonl"
    link.symlink_to(tmp_path / "real.csv")

    with pytest.raises(InceptionError, match=r"real\.csv, which has another suffix; give the target"):
        FileStore.open(link)

    assert names_in(tmp_path) == ["preds.jsonl"]


@pytest.mark.parametrize(("rows_kept", "message"), [(CSV[:-1], "part has another size"), (b"", "csv has another size")])
def test_rows_lost_after_the_manifest_was_finished_are_not_published(
    tmp_path: Path, rows_kept: bytes, message: str
) -> None:
    out = tmp_path / "preds.csv"
    run(out)
    beside(out, ".json").replace(beside(out, ".part.json"))
    out.unlink()
    beside(out, ".part").write_bytes(rows_kept)

    with pytest.raises(InceptionError, match=message):
        run(out)

    assert not out.exists()


# A finished file


def test_only_force_replaces_a_finished_file(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_bytes(b"precious")

    for options in ({}, {"restart": True}):
        with pytest.raises(InceptionError, match=r"preds\.csv exists; --force replaces it"):
            run(out, **options)
        assert names_in(tmp_path) == ["preds.csv"]
        assert out.read_bytes() == b"precious"
    run(out, force=True)

    assert out.read_bytes() == CSV


def test_a_finished_file_stays_until_the_forced_run_is_published(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_bytes(b"precious")
    with FileStore.open(out, force=True) as store:
        start(store)
        write_batches(store, 1)
        assert out.read_bytes() == b"precious"

    with pytest.raises(InceptionError, match="exists"):
        run(out)
    run(out, force=True)

    assert out.read_bytes() == CSV


def test_restart_discards_the_rows(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)

    with FileStore.open(out, restart=True) as store:
        assert store.manifest is None

    assert names_in(tmp_path) == []


def test_opening_alone_keeps_an_interrupted_run(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)
    before = contents_of(tmp_path)

    with FileStore.open(out) as store:
        assert store.manifest is not None

    assert contents_of(tmp_path) == before


def test_an_interrupted_publishing_is_completed_on_opening_and_nothing_can_be_written_then(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    run(out)
    beside(out, ".json").replace(beside(out, ".part.json"))
    out.replace(beside(out, ".part"))

    with FileStore.open(out) as store:
        assert store.finished
        assert store.manifest is not None
        assert store.manifest.n == 15
        with pytest.raises(InceptionError):
            store.write(0, ROWS[:1])

    assert out.read_bytes() == CSV
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


# A file that cannot be written


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("", "is a folder; give a file in it"),
        ("none/preds.csv", "none: no such folder"),
        ("file/preds.csv", "no such folder"),
        ("fifo", "not a regular file; choose another output file, or -"),
        ("x" * 250 + ".csv", "file name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(InceptionError, match=message) as error:
        FileStore.open(tmp_path / out)

    assert "\n" not in str(error.value)
    assert names_in(tmp_path) == ["fifo", "file"]


def test_a_folder_without_permission_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:  # root is never refused
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)

    with pytest.raises(
        InceptionError, match=r"preds\.csv\.part: permission denied; choose another output file"
    ) as error:
        FileStore.open(tmp_path / "preds.csv")
    assert "\n" not in str(error.value)


def test_a_disk_without_locks_is_refused_and_nothing_on_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    out = tmp_path / "preds.csv"
    monkeypatch.setattr(fcntl, "lockf", unable)

    with pytest.raises(InceptionError, match="no locks available"):
        FileStore.open(out)
    assert names_in(tmp_path) == []
    beside(out, ".part").write_bytes(CSV)
    with pytest.raises(InceptionError, match="no locks available"):
        FileStore.open(out)
    assert beside(out, ".part").read_bytes() == CSV


def test_a_full_disk_leaves_whole_rows_and_the_run_resumes(tmp_path: Path) -> None:
    out, first = tmp_path / "preds.csv", csv_header(1) + to_csv(ROWS[:4], 1)
    with FileStore.open(out) as store:
        start(store)
        write_batches(store, 1)
        with (
            file_size_limit(len(first) + 20),
            pytest.raises(InceptionError, match=r"preds\.csv\.part: file too large; .* run the same command again"),
        ):
            store.write(4, ROWS[4:8])

        assert beside(out, ".part").read_bytes() == first
    run(out)
    assert out.read_bytes() == CSV


def test_a_disk_without_space_for_the_converted_file_loses_no_row(tmp_path: Path) -> None:
    out = tmp_path / "preds.jsonl"
    interrupt(out, 4)
    with FileStore.open(out) as store:
        assert start(store) == 15
        with (
            file_size_limit(len(CSV) + 500),  # enough for the rows, not for JSON Lines
            pytest.raises(InceptionError, match=r"preds\.jsonl\S*: file too large; .* run the same command again"),
        ):
            store.publish(MANIFEST)

    assert names_in(tmp_path) == ["preds.jsonl.part", "preds.jsonl.part.inputs", "preds.jsonl.part.json"]
    run(out)
    assert out.read_bytes() == uninterrupted(".jsonl")


def test_a_disk_that_is_full_from_the_start_keeps_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with FileStore.open(tmp_path / "preds.csv") as store:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InceptionError, match=r"part\.inputs: no space left on device; free some disk space"):
            start(store)

    assert names_in(tmp_path) == []


# Two runs

HOLD = """
import os, sys, time
from pathlib import Path
from inception_cli.storage.file_store import FileStore

with FileStore.open(Path(sys.argv[1])):
    orphan = os.fork()
    if orphan == 0:
        time.sleep(60)
        os._exit(0)
    print(orphan, flush=True)
    sys.stdin.read()
    os.kill(orphan, 9)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes preds.csv, and has a worker process."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "preds.csv")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ROOT}, stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()


def test_a_second_run_that_writes_the_same_file_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()

    with pytest.raises(InceptionError, match="another run is writing it"):
        FileStore.open(tmp_path / "preds.csv")

    assert names_in(tmp_path) == ["preds.csv.part"]
    holder.communicate("")
    run(tmp_path / "preds.csv")


def test_a_killed_run_whose_workers_live_on_holds_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    orphan = int(holder.stdout.readline())
    holder.kill()
    holder.wait()

    try:
        run(tmp_path / "preds.csv")
    finally:
        os.kill(orphan, signal.SIGKILL)

    assert (tmp_path / "preds.csv").read_bytes() == CSV


PUBLISHING = """
import sys
from pathlib import Path
from inception_cli.files.atomic import lock

descriptor = lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_that_is_publishing_is_not_completed_by_another(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    run(out)
    beside(out, ".json").replace(beside(out, ".part.json"))
    command = [sys.executable, "-c", PUBLISHING, str(out)]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": ROOT}, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        with pytest.raises(InceptionError, match="another run is writing it"):
            FileStore.open(out)

        assert names_in(tmp_path) == ["preds.csv", "preds.csv.part.json"]
        process.communicate("")
    run(out)
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


def test_a_part_file_that_is_published_before_it_is_locked_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lockf = tmp_path / "preds.csv", fcntl.lockf
    beside(out, ".part").touch()

    def lock_late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", lockf)
        beside(out, ".part").unlink()  # as another run does between the opening and the locking
        lockf(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", lock_late)
    run(out)

    assert out.read_bytes() == CSV


if __name__ == "__main__":
    gc.freeze()  # so that collecting garbage does not copy the memory that forked processes share
    for line in sys.stdin:
        where, how, which = line.rstrip("\n").split("\t")
        make_killed_runs(Path(where), how, which)
        print("done", flush=True)
