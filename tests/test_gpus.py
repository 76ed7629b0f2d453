"""Several processes, a device each: the bytes of the plain run, whatever befalls a process. Devices are CPUs here."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from dying import Deadly
from running import Inception

from inception_cli import gpus, predict
from inception_cli.errors import InceptionError
from inception_cli.images.inputs import Inputs, PathList
from inception_cli.results.rows import Prediction, to_csv
from inception_cli.settings import Run, Settings, resolve

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run() -> Run:
    """The demo weights in batches of four, with the threads that this process has."""
    settings = Settings(("demo",), batch_size=4, workers=0, device="cpu", precision="fp32")
    return replace(resolve(settings), threads=torch.get_num_threads())


@pytest.fixture(scope="module")
def paths(photos: Path) -> PathList:
    """Twenty-one photos, one of which is not there."""
    return PathList.of([*list(Inputs([str(photos)]))[:20], "nowhere.jpg"])


@pytest.fixture(scope="module")
def plain(paths: PathList, run: Run) -> list[bytes]:
    """The batches of one process."""
    return [csv(rows) for rows in predict.classify(paths, run)]


def csv(rows: Sequence[Prediction]) -> bytes:
    return bytes(to_csv(rows, 5))


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes whose imports are done."""
    monkeypatch.setattr(gpus, "START", "forkserver")
    multiprocessing.get_context("forkserver").set_forkserver_preload(["running", "inception_cli.gpus"])


def test_two_processes_give_the_bytes_of_one(paths: PathList, run: Run, plain: list[bytes]) -> None:
    found = [csv(rows) for rows in gpus.classify(paths, run, devices=("cpu", "cpu"))]

    assert found == plain
    assert b"".join(found).count(b"\n") == 21  # six batches for two processes: none is filled up, none comes twice
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("devices", [1, 3])
def test_it_goes_on_where_a_run_stopped(devices: int, paths: PathList, run: Run, plain: list[bytes]) -> None:
    found = gpus.classify(paths, run, start=8, devices=("cpu",) * devices)

    assert [csv(rows) for rows in found] == plain[2:]


@pytest.mark.usefixtures("_quick")
def test_processes_have_workers_of_their_own(paths: PathList, run: Run, plain: list[bytes]) -> None:
    found = gpus.classify(paths, replace(run, loading=replace(run.loading, workers=2)), devices=("cpu", "cpu"))

    assert [csv(rows) for rows in found] == plain


@pytest.mark.usefixtures("_quick")
def test_more_processes_than_batches(paths: PathList, run: Run, plain: list[bytes]) -> None:
    assert [csv(rows) for rows in gpus.classify(paths, run, start=20, devices=("cpu", "cpu"))] == plain[5:]
    assert list(gpus.classify(PathList.of([]), run, devices=("cpu", "cpu"))) == []


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("times", [1, 2])
def test_a_process_that_is_killed_loses_and_doubles_nothing(
    times: int, paths: PathList, run: Run, plain: list[bytes], tmp_path: Path
) -> None:
    deadly = Deadly(paths, 13, times, tmp_path / "deaths")

    found = [csv(rows) for rows in gpus.classify(deadly, run, devices=("cpu", "cpu"))]

    assert len(deadly.deaths.read_text()) == times
    assert found == plain


@pytest.mark.usefixtures("_quick")
def test_a_batch_that_brings_down_every_process_is_told_in_a_line(
    paths: PathList, run: Run, plain: list[bytes], tmp_path: Path
) -> None:
    found = gpus.classify(Deadly(paths, 13, 9, tmp_path / "deaths"), run, devices=("cpu", "cpu"))

    assert [csv(next(found)) for _ in plain[:3]] == plain[:3]
    with pytest.raises(InceptionError) as told:
        next(found)
    assert len((tmp_path / "deaths").read_text()) == 3
    assert str(told.value).startswith("cpu: a process died")
    assert paths[12] in str(told.value)
    assert "exit code -9" in str(told.value)
    assert "CUDA_VISIBLE_DEVICES" in str(told.value)
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("_quick")
def test_a_device_that_fails_is_left_to_the_others(paths: PathList, run: Run, plain: list[bytes]) -> None:
    """No process of it lives to give a row; torch's device `meta` can hold a network, not run it."""
    found = gpus.classify(paths, run, devices=("meta", "cpu"))

    assert [csv(rows) for rows in found] == plain


@pytest.mark.usefixtures("_quick")
def test_what_the_user_can_mend_is_told_as_in_one_process(paths: PathList, run: Run) -> None:
    gone = replace(run, weights=(replace(run.weights[0], file="gone.safetensors"),))

    with pytest.raises(InceptionError, match=r"gone\.safetensors"):
        list(gpus.classify(paths, gone, devices=("cpu", "cpu")))


@pytest.mark.usefixtures("_quick")
def test_who_has_seen_enough_leaves_no_process(paths: PathList, run: Run) -> None:
    stream = gpus.classify(paths, replace(run, loading=replace(run.loading, workers=2)), devices=("cpu", "cpu"))
    next(stream)
    assert len(multiprocessing.active_children()) == 2

    stream.close()  # type: ignore[attr-defined]

    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("workers", "each"), [(0, 0), (1, 1), (5, 2), (16, 8)])
def test_workers_are_shared_out(workers: int, each: int, run: Run) -> None:
    run = replace(run, loading=replace(run.loading, workers=workers))

    assert gpus.shared_out(run, 2).loading.workers == each


@pytest.mark.parametrize(("device", "expected"), [("cuda", 3), ("cuda:0", 1), ("cpu", 1)])
def test_cuda_means_all_that_are_visible(device: str, expected: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    devices = gpus.visible(replace(run, plan=replace(run.plan, device=device)))

    assert len(devices) == expected
    assert devices[0] == ("cuda:0" if device.startswith("cuda") else "cpu")


@pytest.mark.usefixtures("_quick")
def test_a_machine_of_two_gpus_writes_the_same_file(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("classify", photos, "-w", "demo", "-b", 5, "-j", 0, "--precision", "fp32", "--device", "cpu")
    assert inception(*words, "-o", tmp_path / "one.csv").code == 0
    monkeypatch.setattr(gpus, "visible", lambda run: ("cpu", "cpu"))
    monkeypatch.setattr(predict, "classify", None)

    assert inception(*words, "-o", tmp_path / "two.csv").code == 0

    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


SCRIPT = """
import sys, time
from inception_cli import gpus
from inception_cli.images.inputs import PathList
from inception_cli.settings import Settings, resolve
if __name__ == "__main__":
    run = resolve(Settings(("demo",), batch_size=4, workers=2, device="cpu"))
    stream = gpus.classify(PathList.of(sys.argv[1:] * 200), run, devices=("cpu", "cpu"))
    next(stream)
    print("begun", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_processes_and_their_workers_end_with_their_parent(paths: PathList, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TEST_GPUS": str(tmp_path)}
    command = [sys.executable, script, *paths]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "begun\n"
        assert len(of_environment(str(tmp_path))) >= 5  # two with two workers each, the parent
        started.send_signal(signal.SIGKILL)

    until = time.monotonic() + 30
    while of_environment(str(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert of_environment(str(tmp_path)) == []


def of_environment(value: str) -> list[str]:
    """Processes that were started with TEST_GPUS=`value`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TEST_GPUS={value}".encode() in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found
