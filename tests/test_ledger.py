"""A run on disk, killed at every moment of it.

Run as a program this file makes killed runs. `test_ledger.py FOLDER MODE NAME` starts a run on NAME in FOLDER/1,
FOLDER/2, … and kills it (SIGKILL) before its 1st, 2nd, … call that changes the disk, until one comes to its end.
`test_ledger.py FOLDER again NAME` goes on with each FOLDER/N-MOMENT there, and kills it at that moment.
"""

import errno
import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import inception_cli
from inception_cli.errors import InceptionError
from inception_cli.results import ledger as module
from inception_cli.results.formats import convert
from inception_cli.results.ledger import Ledger, difference, fingerprint
from inception_cli.results.rows import Prediction, csv_header, parse_csv, to_csv

# Names that make tearing interesting: a newline, quotes, two-byte letters, bytes that are no UTF-8.
NAMES = [
    "a.jpg",
    'two\n"lines", one.jpg',
    "grün.jpg",
    b"\xff\xc3.jpg".decode("utf-8", "surrogateescape"),
    "e,f.jpg",
] * 3
BATCH = 4  # so the last of the 15 comes in a shorter batch
SETTINGS = {"precision": "fp32"}


def rows(names: list[str]) -> list[Prediction]:
    return [Prediction(name, "ok", (1,), (f'"{at}", a label',), (0.5,)) for at, name in enumerate(names)]


def batches(start: int) -> Iterator[bytes]:
    for first in range(start, len(NAMES), BATCH):
        yield to_csv(rows(NAMES)[first : first + BATCH], 1)


QUIET = csv_header(1) + to_csv(rows(NAMES), 1)


@cache
def quiet(suffix: str) -> bytes:
    """What a quiet run publishes."""
    if suffix == ".csv":
        return QUIET
    file = BytesIO()
    convert(parse_csv(QUIET.splitlines(keepends=True), Path("preds.csv")), 1, file, suffix)
    return file.getvalue()


def encoded(names: list[str]) -> list[bytes]:
    return [os.fsencode(name) + b"\0" for name in names]


def start(ledger: Ledger) -> int:
    """Begin or resume; the number of rows there are."""
    if ledger.manifest is not None:
        assert ledger.manifest["run"] == SETTINGS
        return ledger.resume(BATCH)
    ledger.list_inputs(encoded(NAMES))
    ledger.begin({"run": SETTINGS}, csv_header(1))
    return 0


def go(out: Path, **options: bool) -> None:
    """The whole command: what a quiet run does, and what is typed again after a kill."""
    with Ledger.open(out, **options) as ledger:
        if ledger.published:
            return
        for data in batches(start(ledger)):
            ledger.write(data)
        ledger.publish({"run": SETTINGS, "n": len(NAMES)})


def interrupt(out: Path, written: int = 2) -> None:
    """A run that stopped after some batches."""
    with Ledger.open(out) as ledger:
        for data in itertools.islice(batches(start(ledger)), written):
            ledger.write(data)


def part_of(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Killed runs


def kill_at(moment: int) -> None:
    """From now on SIGKILL comes before the moment-th call that changes the disk; before a write, in the midst of it."""
    count = itertools.count(1)

    def deadly(call: Callable[..., Any]) -> Callable[..., Any]:
        def killing(*arguments: Any, **options: Any) -> Any:
            if next(count) == moment:
                if call.__name__ == "write":
                    call(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return killing

    for name in ("open", "write", "replace", "unlink", "fsync", "ftruncate", "close"):
        setattr(os, name, deadly(getattr(os, name)))


def killed(out: Path, moment: int, **options: bool) -> bool:
    """Run `go` in a child that is killed at that moment; whether it was."""
    child = os.fork()
    if child == 0:
        kill_at(moment)
        try:
            go(out, **options)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def killed_anew(out: Path, moment: int, mode: str) -> bool:
    """Kill a run in an empty folder, one that replaces a file, or one that restarts an interrupted run."""
    out.parent.mkdir()
    if mode == "force":
        out.write_bytes(b"precious")
    if mode == "restart":
        interrupt(out)
    return killed(out, moment, **{} if mode == "plain" else {mode: True})


def child_process(*arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(inception_cli.__file__).parents[1])}
    subprocess.run([sys.executable, __file__, *arguments], env=environment, check=True)


def check_that_it_goes_on(out: Path, **options: bool) -> None:
    published = part_of(out, ".json").exists() and not part_of(out, ".part.json").exists()
    if published and not options.get("force"):
        with pytest.raises(InceptionError, match="exists; --force replaces it"):
            go(out, **options)
    else:
        go(out, **options)

    assert out.read_bytes() == quiet(out.suffix)
    assert names_in(out.parent) == [out.name, f"{out.name}.json"]
    manifest = json.loads(part_of(out, ".json").read_bytes())
    size = len(quiet(out.suffix))
    assert (manifest["n"], manifest["ledger"]["images"], manifest["ledger"]["bytes"]) == (15, 15, size)


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("plain", "preds.csv"), ("force", "preds.csv"), ("restart", "preds.csv")),
        *(("plain", "preds.jsonl"), ("force", "preds.parquet"), ("restart", "preds.jsonl")),
    ],
)
def test_a_kill_at_every_moment_leaves_a_run_that_goes_on(tmp_path: Path, mode: str, name: str) -> None:
    child_process(str(tmp_path), mode, name)

    moments = list(tmp_path.iterdir())
    assert len(moments) > (25 if name == "preds.csv" else 30)
    for folder in moments:
        check_that_it_goes_on(folder / name, **{} if mode == "plain" else {mode: True})


@pytest.mark.parametrize("name", ["preds.csv", "preds.jsonl"])
def test_a_run_killed_twice_goes_on(tmp_path: Path, name: str) -> None:
    child_process(str(tmp_path), "plain", name)
    for folder in list(tmp_path.iterdir()):
        for moment in (2, 5, 9):
            shutil.copytree(folder, tmp_path / f"{folder.name}-{moment}")
        shutil.rmtree(folder)
    child_process(str(tmp_path), "again", name)

    for folder in tmp_path.iterdir():
        check_that_it_goes_on(folder / name)


def test_a_restart_that_was_killed_goes_on_or_is_refused_with_the_cure(tmp_path: Path) -> None:
    child_process(str(tmp_path), "restart", "preds.csv")
    refused = 0
    for folder in tmp_path.iterdir():
        before = names_in(folder)
        try:
            check_that_it_goes_on(folder / "preds.csv")
        except InceptionError:
            refused += 1
            with pytest.raises(InceptionError, match=r"part\.json is lost.*--restart"):
                go(folder / "preds.csv")
            assert names_in(folder) == before

    assert refused < 3  # only between the removal of the manifest and that of the rows


# A quiet run


def test_a_quiet_run_leaves_rows_and_manifest(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"

    go(out)

    assert out.read_bytes() == QUIET
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


def test_while_it_runs_the_list_holds_every_path_and_the_rows_are_whole(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "preds.csv") as ledger:
        assert start(ledger) == 0
        ledger.write(next(batches(0)))

        assert ledger.inputs.read_bytes() == b"".join(encoded(NAMES))
        assert names_in(tmp_path) == ["preds.csv.part", "preds.csv.part.inputs", "preds.csv.part.json"]
        assert (tmp_path / "preds.csv.part").read_bytes() == csv_header(1) + to_csv(rows(NAMES)[:4], 1)


def test_a_run_without_images_leaves_nothing(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "preds.csv") as ledger:
        assert ledger.list_inputs([]) == 0

    assert names_in(tmp_path) == []


def test_a_list_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def inputs() -> Iterator[bytes]:
        yield b"a.jpg\0"
        raise InceptionError("nothing named exists")

    with pytest.raises(InceptionError, match="nothing named"), Ledger.open(tmp_path / "preds.csv") as ledger:
        ledger.list_inputs(inputs())

    assert names_in(tmp_path) == []


def test_a_run_that_lacks_rows_is_not_published(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "preds.csv") as ledger:
        start(ledger)
        ledger.write(next(batches(0)))

        with pytest.raises(InceptionError, match="4 rows for 15 images"):
            ledger.publish({})

    assert not (tmp_path / "preds.csv").exists()


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "preds.csv"
    link.symlink_to(tmp_path / "elsewhere" / "real.csv")

    go(link)

    assert link.is_symlink()
    assert link.read_bytes() == QUIET
    assert names_in(tmp_path / "elsewhere") == ["real.csv", "real.csv.json"]


# Going on


@pytest.mark.parametrize(("written", "kept"), [(0, 0), (1, 4), (3, 12), (4, 15)])
def test_whole_batches_are_kept(tmp_path: Path, written: int, kept: int) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out, written)

    with Ledger.open(out) as ledger:
        assert start(ledger) == kept
        assert [row.labels for row in ledger.rows()] == [row.labels for row in rows(NAMES)[:kept]]


def test_rows_can_be_written_after_they_were_read(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)

    with Ledger.open(out) as ledger:
        kept = start(ledger)
        next(ledger.rows())
        for data in batches(kept):
            ledger.write(data)
        ledger.publish({})

    assert out.read_bytes() == QUIET


def test_a_part_file_cut_at_any_byte_goes_on(tmp_path: Path) -> None:
    out, part = tmp_path / "preds.csv", tmp_path / "preds.csv.part"
    interrupt(out, 4)
    for length in range(len(QUIET) + 1):
        part.write_bytes(QUIET[:length])
        with Ledger.open(out) as ledger:
            kept = ledger.resume(BATCH)

            assert kept % BATCH == 0 or kept == len(NAMES)
            assert kept <= QUIET[:length].count(b".jpg")
            assert len(list(ledger.rows())) == kept
            assert QUIET.startswith(part.read_bytes())


def test_rows_that_a_crash_of_the_machine_left_as_nuls_are_made_again(tmp_path: Path) -> None:
    out, part = tmp_path / "preds.csv", tmp_path / "preds.csv.part"
    interrupt(out, 4)
    whole = len(csv_header(1) + to_csv(rows(NAMES)[:9], 1))
    part.write_bytes(QUIET[:whole] + b"\0" * 50 + QUIET[whole + 50 :])

    with Ledger.open(out) as ledger:
        assert ledger.resume(BATCH) == 8


@given(st.lists(st.text(st.sampled_from('a"\n,')), min_size=1), st.data())
def test_rows_are_counted_whatever_their_names(names: list[str], data: st.DataObject) -> None:
    lines = [csv_header(1), *(to_csv([row], 1) for row in rows(names))]
    ends = list(itertools.accumulate(map(len, lines)))
    length = data.draw(st.integers(0, ends[-1]))

    found = list(module._row_ends(b"".join(lines)[:length].splitlines(keepends=True)))

    assert found == [end for end in ends if end <= length]


# Damage


@pytest.mark.parametrize(
    ("suffix", "damage", "what"),
    [
        (".part.json", None, "part.json is lost"),
        (".part.json", b"", "part.json is damaged"),
        (".part.json", b'{"run": {}', "part.json is damaged"),
        (".part.json", b"[]", "part.json is damaged"),
        (".part.json", b"{}", "part.json is damaged"),
        (".part.json", b"\xff\xfe", "part.json is damaged"),
        (".part.inputs", None, "inputs is lost"),
        (".part.inputs", b"", "inputs is damaged"),
        (".part.inputs", b"other.jpg\0", "inputs is damaged"),
        (".part", b"something else", "part is damaged"),
        (".part", QUIET + to_csv(rows(["more"]), 1), "more rows than there are images"),
    ],
)
def test_damage_is_refused_with_the_cure(tmp_path: Path, suffix: str, damage: bytes | None, what: str) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)
    file = part_of(out, suffix)
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(InceptionError, match=what) as error:
        go(out)

    assert "--restart begins it anew" in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    go(out, restart=True)
    assert out.read_bytes() == QUIET
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


def test_an_empty_part_file_without_a_manifest_is_a_fresh_start(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    part_of(out, ".part").touch()
    part_of(out, ".part.inputs").write_bytes(b"stale.jpg\0")

    go(out)

    assert out.read_bytes() == QUIET


@pytest.mark.parametrize("name", ["preds.jsonl", "preds.parquet"])
def test_what_was_made_and_lost_is_not_published(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    go(out)
    part_of(out, ".json").replace(part_of(out, ".part.json"))
    part_of(out, ".part").write_bytes(QUIET)
    made = out.rename(part_of(out, ".part.made"))

    made.write_bytes(quiet(out.suffix)[:-1])
    with pytest.raises(InceptionError, match="made is not as long as it was"):
        go(out)
    made.unlink()
    with pytest.raises(InceptionError, match=f"{name} is not as it was published"):
        go(out)

    assert not out.exists()
    go(out, restart=True)
    assert out.read_bytes() == quiet(out.suffix)
    assert names_in(tmp_path) == [name, f"{name}.json"]


def test_a_link_to_a_file_of_another_suffix_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "preds.jsonl"
    link.symlink_to(tmp_path / "real.csv")

    with pytest.raises(InceptionError, match=r"real\.csv, of another suffix; name that"):
        Ledger.open(link)

    assert names_in(tmp_path) == ["preds.jsonl"]


@pytest.mark.parametrize(("rows_kept", "what"), [(QUIET[:-1], "part is not as long"), (b"", "csv is not as it was")])
def test_rows_lost_after_the_manifest_was_finished_are_not_published(
    tmp_path: Path, rows_kept: bytes, what: str
) -> None:
    out = tmp_path / "preds.csv"
    go(out)
    part_of(out, ".json").replace(part_of(out, ".part.json"))
    out.unlink()
    part_of(out, ".part").write_bytes(rows_kept)

    with pytest.raises(InceptionError, match=what):
        go(out)

    assert not out.exists()


# A finished file


def test_a_finished_file_is_replaced_by_force_alone(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_bytes(b"precious")

    for options in ({}, {"restart": True}):
        with pytest.raises(InceptionError, match=r"preds\.csv exists; --force replaces it"):
            go(out, **options)
        assert names_in(tmp_path) == ["preds.csv"]
        assert out.read_bytes() == b"precious"
    go(out, force=True)

    assert out.read_bytes() == QUIET


def test_a_finished_file_stays_until_the_forced_run_is_published(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    out.write_bytes(b"precious")
    with Ledger.open(out, force=True) as ledger:
        start(ledger)
        ledger.write(next(batches(0)))
        assert out.read_bytes() == b"precious"

    with pytest.raises(InceptionError, match="exists"):
        go(out)
    go(out, force=True)

    assert out.read_bytes() == QUIET


def test_restart_throws_the_rows_away(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)

    with Ledger.open(out, restart=True) as ledger:
        assert ledger.manifest is None

    assert names_in(tmp_path) == []


def test_opening_alone_keeps_an_interrupted_run(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    interrupt(out)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    with Ledger.open(out) as ledger:
        assert ledger.manifest is not None

    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_half_done_publishing_is_completed_and_nothing_can_be_written_through_it(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    go(out)
    part_of(out, ".json").replace(part_of(out, ".part.json"))
    out.replace(part_of(out, ".part"))

    with Ledger.open(out) as ledger:
        assert ledger.published
        assert ledger.manifest is not None
        assert ledger.manifest["n"] == 15
        with pytest.raises(InceptionError):
            ledger.write(b"more")

    assert out.read_bytes() == QUIET
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


# What cannot be written


@pytest.mark.parametrize(
    ("out", "what"),
    [
        ("", "is a folder; name a file in it"),
        ("none/preds.csv", "none: no such folder"),
        ("file/preds.csv", "no such folder"),
        ("fifo", "is no regular file; name one, or -"),
        ("x" * 250 + ".csv", "File name too long"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_told_in_a_line(tmp_path: Path, out: str, what: str) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(InceptionError, match=what) as error:
        Ledger.open(tmp_path / out)

    assert "\n" not in str(error.value)
    assert names_in(tmp_path) == ["fifo", "file"]


def test_a_folder_without_permission_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:  # as root is denied nothing
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)

    with pytest.raises(InceptionError, match=r"preds\.csv\.part: Permission denied; choose another --out"):
        Ledger.open(tmp_path / "preds.csv")


def test_a_disk_that_cannot_lock_is_told_and_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    out = tmp_path / "preds.csv"
    monkeypatch.setattr(fcntl, "lockf", unable)

    with pytest.raises(InceptionError, match="No locks available"):
        Ledger.open(out)
    assert names_in(tmp_path) == []
    part_of(out, ".part").write_bytes(QUIET)
    with pytest.raises(InceptionError, match="No locks available"):
        Ledger.open(out)
    assert part_of(out, ".part").read_bytes() == QUIET


def test_a_full_disk_leaves_whole_rows_and_the_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Ledger.open(out) as ledger:
        start(ledger)
        first, second, *_ = batches(0)
        ledger.write(first)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(csv_header(1) + first) + 20, hard))
        try:
            with pytest.raises(InceptionError, match=r"preds\.csv\.part: File too large; .* the same command goes on"):
                ledger.write(second)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        assert part_of(out, ".part").read_bytes() == csv_header(1) + first
    go(out)
    assert out.read_bytes() == QUIET


def test_a_disk_without_room_for_what_is_made_costs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "preds.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(QUIET) + 500, hard))  # for rows and manifest, not for JSON Lines
    try:
        with pytest.raises(InceptionError, match=r"preds\.jsonl: File too large; .* the same command goes on"):
            go(out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert names_in(tmp_path) == ["preds.jsonl.part", "preds.jsonl.part.inputs", "preds.jsonl.part.json"]
    go(out)
    assert out.read_bytes() == quiet(".jsonl")


def test_a_disk_that_is_full_from_the_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Ledger.open(tmp_path / "preds.csv") as ledger:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(InceptionError, match=r"part\.inputs: No space left on device; make room"):
            start(ledger)

    assert names_in(tmp_path) == []


# Two runs

HOLD = """
import os, sys, time
from pathlib import Path
from inception_cli.results.ledger import Ledger

with Ledger.open(Path(sys.argv[1])):
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
    """Another process that has the ledger of preds.csv open, and a worker of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(inception_cli.__file__).parents[1])}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "preds.csv")]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as process:
        yield process
        process.kill()


def test_a_second_run_on_one_file_is_refused(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()

    with pytest.raises(InceptionError, match="another run writes it"):
        Ledger.open(tmp_path / "preds.csv")

    assert names_in(tmp_path) == ["preds.csv.part"]
    holder.communicate("")
    go(tmp_path / "preds.csv")


def test_a_killed_run_whose_workers_live_on_holds_no_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.stdout is not None
    orphan = int(holder.stdout.readline())
    holder.kill()
    holder.wait()

    try:
        go(tmp_path / "preds.csv")
    finally:
        os.kill(orphan, signal.SIGKILL)

    assert (tmp_path / "preds.csv").read_bytes() == QUIET


PUBLISHING = """
import sys
from pathlib import Path
from inception_cli.results import disk

out = Path(sys.argv[1])
descriptor = disk.lock(out)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_that_is_publishing_is_not_completed_by_another(tmp_path: Path) -> None:
    out = tmp_path / "preds.csv"
    go(out)
    part_of(out, ".json").replace(part_of(out, ".part.json"))
    environment = os.environ | {"PYTHONPATH": str(Path(inception_cli.__file__).parents[1])}
    command = [sys.executable, "-c", PUBLISHING, str(out)]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()

        with pytest.raises(InceptionError, match="another run writes it"):
            Ledger.open(out)

        assert names_in(tmp_path) == ["preds.csv", "preds.csv.part.json"]
        process.communicate("")
    go(out)
    assert names_in(tmp_path) == ["preds.csv", "preds.csv.json"]


def test_a_part_file_published_while_it_was_being_locked_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, lockf = tmp_path / "preds.csv", fcntl.lockf
    part_of(out, ".part").touch()

    def lock_late(descriptor: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "lockf", lockf)
        part_of(out, ".part").unlink()  # as the other run does, between our opening and our locking
        lockf(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", lock_late)
    go(out)

    assert out.read_bytes() == QUIET


# Settings


def test_fingerprint_knows_values_and_not_their_order() -> None:
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_difference_is_told_by_name() -> None:
    old = {"plan": {"precision": "bf16", "device": "cpu"}, "top_k": 5, "weights": [{"name": "a"}], "gone": None}
    new = {"plan": {"precision": "fp32", "device": "cpu"}, "top_k": 5, "weights": ({"name": "b"}, {"name": "c"})}

    assert difference(old, new) == [
        "plan.precision: bf16 → fp32",
        "weights.0.name: a → b",
        "gone: null → not set",
        "weights.1.name: not set → c",
    ]
    assert difference(old, old) == []


if __name__ == "__main__":
    root, mode, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    quiet(Path(name).suffix)  # what it imports is imported once
    if mode == "again":
        for folder in root.iterdir():
            killed(folder / name, int(folder.name.partition("-")[2]))
    else:
        moments = itertools.count(1)
        while killed_anew(root / str(moment := next(moments)) / name, moment, mode):
            pass
