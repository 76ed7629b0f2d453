"""Several processes with a device each write the bytes of one, even if a process dies. The devices are CPUs here."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dying import Deadly
from records import run_config
from running import Inception
from stub_network import PRELOAD, WEIGHTS

from inception_cli.config import Classes, LoaderConfig, RunConfig, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.images.discovery import Discovery
from inception_cli.inference import multi_gpu, runner
from inception_cli.inference.multi_gpu import MultiGpuPredictor
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.predictions.formats import to_csv
from inception_cli.storage.input_list import InputList

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(stub: str) -> RunConfig:
    """The stub network with batches of four."""
    return replace(run_config(batch_size=4, top_k=5), weights=(WEIGHTS,))


@pytest.fixture(scope="module")
def paths(photos: Path) -> InputList:
    """Twenty-one photos, one of which does not exist."""
    return InputList.of([*list(Discovery([str(photos)]))[:20], "nowhere.jpg"])


@pytest.fixture(scope="module")
def plain(paths: InputList, run: RunConfig) -> list[bytes]:
    """The batches of one process."""
    batches = csv(DevicePredictor(run).predict(paths, [range(21)]))
    assert len({line.split(b",")[2] for batch in batches for line in batch.splitlines()}) > 7
    return batches


def csv(results: Iterable[BatchResult]) -> list[bytes]:
    """Return the rows of each batch as CSV."""
    return [to_csv(result.predictions, 5) for result in results]


def predict(
    paths: Sequence[str], run: RunConfig, devices: int | tuple[str, ...] = 2, pending: Sequence[range] | None = None
) -> list[BatchResult]:
    """Return the results of several processes, for all paths unless some are `pending`."""
    names = ("cpu",) * devices if isinstance(devices, int) else devices
    return [*MultiGpuPredictor(run, names).predict(paths, [range(len(paths))] if pending is None else pending)]


@pytest.fixture
def _fast_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes whose imports are done."""
    monkeypatch.setattr(multi_gpu, "START_METHOD", "forkserver")
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)


@pytest.mark.usefixtures("_fast_start")
def test_two_processes_give_the_labels_of_one(paths: InputList, run: RunConfig) -> None:
    classes = Classes(WEIGHTS.classes.names, tuple((name, "thing") for name in WEIGHTS.classes.names[:7]))
    decided = replace(run, weights=(replace(WEIGHTS, classes=classes),), thresholds=Thresholds(rollup=0.8))

    rows = [row for result in predict(paths, decided) for row in result.predictions]

    assert rows == [
        row for result in DevicePredictor(decided).predict(paths, [range(21)]) for row in result.predictions
    ]
    assert {row.decision.reason for row in rows if row.decision} == {"top1", "rollup", "low_score"}


@pytest.mark.usefixtures("_fast_start")
def test_two_processes_write_the_bytes_of_one(paths: InputList, run: RunConfig, plain: list[bytes]) -> None:
    results = predict(paths, run)

    assert csv(results) == plain
    assert [result.first for result in results] == [0, 4, 8, 12, 16, 20]  # none is filled up, none comes twice
    assert multiprocessing.active_children() == []


def test_a_process_that_is_spawned_writes_the_same_bytes(paths: InputList, run: RunConfig, plain: list[bytes]) -> None:
    """As on GPUs; the other tests start processes by forking."""
    assert multi_gpu.START_METHOD == "spawn"
    assert csv(predict(paths, run, 1, [range(8, 21)])) == plain[2:]


@pytest.mark.usefixtures("_fast_start")
def test_two_processes_give_the_arrays_of_one(paths: InputList, run: RunConfig) -> None:
    run = replace(run, arrays=("features", "scores"))

    results, plain = predict(paths, run), [*DevicePredictor(run).predict(paths, [range(len(paths))])]

    assert [len(result.arrays) for result in results] == [2] * 6
    for result, expected in zip(results, plain, strict=True):
        for array, same in zip(result.arrays, expected.arrays, strict=True):
            assert np.array_equal(array, same, equal_nan=True)


@pytest.mark.usefixtures("_fast_start")
@pytest.mark.parametrize("devices", [1, 3])
def test_a_resumed_run_predicts_the_pending_inputs(
    devices: int, paths: InputList, run: RunConfig, plain: list[bytes]
) -> None:
    assert csv(predict(paths, run, devices, [range(8, 21)])) == plain[2:]
    assert csv(predict(paths, run, devices, [range(4), range(12, 16)])) == [plain[0], plain[3]]


@pytest.mark.slow
@pytest.mark.usefixtures("_fast_start")
def test_processes_have_their_own_workers(paths: InputList, run: RunConfig, plain: list[bytes]) -> None:
    assert csv(predict(paths, replace(run, loader=LoaderConfig(4, workers=2)))) == plain


@pytest.mark.usefixtures("_fast_start")
def test_there_may_be_more_processes_than_batches(paths: InputList, run: RunConfig, plain: list[bytes]) -> None:
    assert csv(predict(paths, run, 2, [range(20, 21)])) == plain[5:]
    assert predict(InputList.of([]), run) == []
    assert predict(paths, run, pending=[]) == []


@pytest.mark.usefixtures("_fast_start")
@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_process_loses_and_doubles_no_row(
    times: int, paths: InputList, run: RunConfig, plain: list[bytes], tmp_path: Path
) -> None:
    deadly = Deadly(paths, 13, times, tmp_path / "deaths")

    results = predict(deadly, run)

    assert len(deadly.deaths.read_text()) == times
    assert csv(results) == plain


@pytest.mark.usefixtures("_fast_start")
def test_a_batch_on_which_every_process_dies_is_an_error_of_one_line(
    paths: InputList, run: RunConfig, plain: list[bytes], tmp_path: Path
) -> None:
    deadly = Deadly(paths, 13, 9, tmp_path / "deaths")
    results = MultiGpuPredictor(run, ("cpu", "cpu")).predict(deadly, [range(21)])

    assert csv(next(results) for _ in plain[:3]) == plain[:3]
    with pytest.raises(InceptionError) as error:
        next(results)
    text = str(error.value)
    assert len((tmp_path / "deaths").read_text()) == 3
    assert text.startswith("cpu: 3 processes died on the images")
    assert f"{paths[12]} … {paths[15]}" in text
    assert "exit code -9" in text
    assert "CUDA_VISIBLE_DEVICES" in text
    assert "\n" not in text
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("_fast_start")
def test_a_stopped_process_is_replaced(
    paths: InputList, run: RunConfig, plain: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_gpu, "POLL_SECONDS", 0.3)
    run = replace(run, loader=LoaderConfig(4, 0, timeout=0.6))
    deadly = Deadly(paths, 13, 1, tmp_path / "deaths", signal.SIGSTOP)

    assert csv(predict(deadly, run)) == plain
    assert deadly.deaths.read_text() == "x"
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("_fast_start")
def test_batches_of_a_faulty_device_go_to_the_others(paths: InputList, run: RunConfig, plain: list[bytes]) -> None:
    assert csv(predict(paths, run, ("cuda:63", "cpu"))) == plain


@pytest.mark.usefixtures("_fast_start")
def test_an_error_for_the_user_is_the_same_as_in_one_process(paths: InputList, run: RunConfig) -> None:
    gone = replace(run, weights=(replace(run.weights[0], name="gone", file="gone.safetensors"),))

    with pytest.raises(InceptionError, match=r"gone\.safetensors"):
        predict(paths, gone)
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.usefixtures("_fast_start")
def test_closing_the_results_early_ends_the_processes(paths: InputList, run: RunConfig) -> None:
    run, many = replace(run, loader=LoaderConfig(4, workers=2)), InputList.of([*paths] * 40)
    results = MultiGpuPredictor(run, ("cpu", "cpu")).predict(many, [range(len(many))])
    next(results)
    assert len(multiprocessing.active_children()) == 2

    results.close()  # type: ignore[attr-defined]

    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(("workers", "each"), [(0, 0), (1, 1), (5, 2), (16, 8)])
def test_workers_are_shared(workers: int, each: int, run: RunConfig) -> None:
    run = replace(run, loader=LoaderConfig(4, workers=workers))

    assert multi_gpu.share_workers(run, 2).loader.workers == each


@pytest.mark.parametrize(("device", "expected"), [("cuda", 3), ("cuda:0", 1), ("cpu", 1)])
def test_cuda_means_all_visible_gpus(
    device: str, expected: int, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)

    devices = multi_gpu.visible_devices(replace(run, plan=replace(run.plan, device=device)))

    assert len(devices) == expected
    assert devices[0] == ("cuda:0" if device.startswith("cuda") else "cpu")


@pytest.mark.usefixtures("_fast_start")
def test_a_command_on_two_gpus_writes_the_same_file(
    stub: str, inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("classify", photos, "-w", stub, "-b", 5, "-j", 0, "--precision", "fp32", "--device", "cpu")
    assert inception(*options, "-o", tmp_path / "one.csv").code == 0
    monkeypatch.setattr(runner, "visible_devices", lambda run: ("cpu", "cpu"))
    monkeypatch.setattr(runner, "DevicePredictor", None)

    assert inception(*options, "-o", tmp_path / "two.csv").code == 0

    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


SCRIPT = """
import sys, time
from inception_cli.config import Settings
from inception_cli.inference.multi_gpu import MultiGpuPredictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.storage.input_list import InputList
if __name__ == "__main__":
    settings = Settings(("demo",), batch_size=4, workers=2, device="cpu")
    run = resolve(settings, resolve_plan(settings))
    paths = InputList.of(sys.argv[1:] * 200)
    results = MultiGpuPredictor(run, ("cpu", "cpu")).predict(paths, [range(len(paths))])
    next(results)
    print("started", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_processes_and_their_workers_end_with_their_parent(paths: InputList, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TEST_GPUS": str(tmp_path)}
    command = [sys.executable, script, *paths]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        assert len(processes_with(str(tmp_path))) >= 5  # the parent, and two with two workers each
        parent.send_signal(signal.SIGKILL)

    until = time.monotonic() + 30
    while processes_with(str(tmp_path)) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_with(str(tmp_path)) == []


def processes_with(value: str) -> list[str]:
    """Return the processes that were started with TEST_GPUS=`value`."""
    processes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TEST_GPUS={value}".encode() in (process / "environ").read_bytes():
                processes.append(process.name)
        except OSError:
            continue
    return processes
