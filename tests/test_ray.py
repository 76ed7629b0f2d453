"""`--engine ray` writes the rows of a plain run, even if a process or a node dies; clusters of two nodes here."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lively import lively
from running import Inception

from inception_cli.config import PRESETS
from inception_cli.files.remote import local_copy, open_store
from inception_cli.predictions.classes import imagenet
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage import folder_store
from inception_cli.storage.folder_store import FolderStore
from inception_cli.weights.load import save_weights

if not find_spec("ray"):
    pytest.skip("Ray is not installed: pip install '.[ray-test]'", allow_module_level=True)
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A store like S3 on this machine, with an empty bucket; its address is in the environment, also of clusters."""
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        boto3 = pytest.importorskip("boto3")  # which moto brings
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
        yield BUCKET
    server.stop()


@pytest.fixture(scope="module")
def cluster(store: str) -> Iterator[Any]:
    """Two nodes of a core each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    nodes.wait_for_nodes()
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights like those of the other tests, with a seed that gives the photos more different classes."""
    file = tmp_path_factory.mktemp("weights") / "lively.safetensors"
    save_weights(file, lively(seed=1), imagenet().names, PRESETS["torchvision"], {})
    return file


@pytest.fixture(scope="module")
def inputs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Photos, and files that are no images."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "no picture, but a comma.jpg").write_bytes(b"nothing")
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes(next(photos.rglob("*.jpg")).read_bytes()[:1500])
    (folder / "nowhere.jpg").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe.png")
    Path(os.fsdecode(bytes(folder) + b"/\xff.jpg")).write_bytes(next(photos.rglob("*.jpg")).read_bytes())
    return [str(photos), str(folder), str(folder / "gone.jpg")]


@pytest.fixture
def on_cluster(
    cluster: Any, checkpoint: Path, inception: Inception, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """`classify` on the cluster, in shards of 8."""
    monkeypatch.setattr(folder_store, "shard_size", lambda images, per_batch: 8)
    words = ("--engine", "ray", "--ray-address", cluster.address, "-w", checkpoint, "--precision", "fp32", "-b", 4)
    return lambda *more: inception("classify", *words, "--decode", "exact", *more)


@pytest.fixture
def plain(
    inputs: list[str], checkpoint: Path, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Prediction]:
    """The rows of a run without a cluster, with one thread."""
    monkeypatch.setattr("inception_cli.machine.cores", lambda: 1)
    out = tmp_path / "plain.csv"
    ended = inception(
        *("classify", *inputs, "-w", checkpoint, "--precision", "fp32", "-b", 4, "--decode", "exact", "--out", out)
    )
    assert ended.code == 3
    return [*read_predictions(out)]


def test_two_nodes_write_the_rows_of_a_plain_run(
    on_cluster: Callable[..., Any], inputs: list[str], photos: Path, plain: list[Prediction], tmp_path: Path
) -> None:
    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_predictions(tmp_path / "preds")]) == (3, plain)
    assert len({row.classes[0] for row in plain if row.classes}) > len(plain) // 3  # else no equality could fail
    # Each photo has its own five classes, so that another photo's row would be noticed.
    assert len({row.classes for row in plain if row.classes}) == len([*photos.rglob("*.jpg")])
    assert sorted(file.name for file in (tmp_path / "preds").iterdir()) == [
        "_manifest.json",
        *(f"part-0000{shard}.parquet" for shard in range(4)),
    ]


def actor_processes() -> list[int]:
    """Return the processes of the actors of this process's clusters."""

    def parents(process: int) -> Iterator[int]:
        while process > 1:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            yield process

    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker") and os.getpid() in parents(
                int(folder.name)
            ):
                processes.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return processes


@pytest.fixture
def after_the_first_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """Call a function when the first rows have arrived; the list then holds their position."""

    def arrange(function: Callable[[], None]) -> list[int]:
        write, calls = FolderStore.write, list[int]()

        def write_and_call(
            self: FolderStore, first: int, predictions: Sequence[Prediction], arrays: Sequence[object]
        ) -> None:
            if not calls:
                calls.append(first)
                function()
            write(self, first, predictions, arrays)

        monkeypatch.setattr(FolderStore, "write", write_and_call)
        return calls

    return arrange


def test_a_killed_actor_loses_and_doubles_no_row(
    on_cluster: Callable[..., Any],
    after_the_first_batch: Callable[[Callable[[], None]], list[int]],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
) -> None:
    killed = []

    def kill() -> None:
        for process in actor_processes():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    after_the_first_batch(kill)
    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_predictions(tmp_path / "preds")]) == (3, plain)
    assert killed


def test_an_interrupted_run_resumes_after_its_complete_shards(
    on_cluster: Callable[..., Any],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "preds"
    put = FolderStore._put

    def interrupting(self: FolderStore, name: str, data: bytes) -> None:
        put(self, name, data)
        if name.startswith("part-"):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "_put", interrupting)
        ended = on_cluster(*inputs, "--out", out)
    finished = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert (ended.code, len(finished)) == (130, 1)
    assert "the same command resumes" in ended.err

    other = on_cluster(*inputs, "--out", out, "--top-k", 2)
    assert (other.code, "--top-k: 5 → 2" in other.err, "--restart" in other.err) == (1, True, True)

    ended = on_cluster(*inputs, "--out", out)
    assert (ended.code, [*read_predictions(out)]) == (3, plain)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert "(8 of them from the interrupted run)" in ended.err


def test_an_object_store_is_read_and_written(
    on_cluster: Callable[..., Any], store: str, photos: Path, inception: Inception, tmp_path: Path
) -> None:
    files, folder = open_store(store + "/photos")
    names = ["a/0 ä.jpg", "a/1%20.JPG", "b/2.jpg", ".hidden/3.jpg", "broken.png", "notes.txt"]
    for name, photo in zip(names, sorted(photos.rglob("*.jpg")), strict=False):
        data = photo.read_bytes() if name.lower().endswith(".jpg") else b"none"
        with files.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(data)
    listed = [f"{store}/photos/{name}" for name in ("a/0 ä.jpg", "a/1%20.JPG", "b/2.jpg", "broken.png")]

    ended = on_cluster(f"{store}/photos", f"{store}/photos/gone.jpg", "--out", f"{store}/preds")

    assert (ended.code, "skipped: 1 .txt" in ended.err) == (3, True)
    with local_copy(f"{store}/preds") as preds:
        assert sorted(file.name for file in preds.iterdir()) == ["_manifest.json", "part-00000.parquet"]
        rows = [*read_predictions(preds)]
    assert [(row.path, row.status) for row in rows] == [
        *((path, "ok" if path.lower().endswith("jpg") else "corrupt") for path in listed),
        (f"{store}/photos/gone.jpg", "missing"),
    ]
    again = on_cluster(f"{store}/photos", "--out", f"{store}/preds")
    assert (again.code, "holds a finished run" in again.err) == (1, True)
    reported = inception("report", f"{store}/preds", "--out", tmp_path / "report.html")
    assert (reported.code, "data:image/jpeg" in (tmp_path / "report.html").read_text()) == (0, True)
    (tmp_path / "labels.csv").write_text("path,label\n0 ä.jpg,tench\n2.jpg,goldfish\n")
    evaluated = inception("evaluate", "--predictions", f"{store}/preds", "--labels", tmp_path / "labels.csv", "--json")
    assert (evaluated.code, json.loads(evaluated.out)["n"]) == (0, 2)
    globbed = on_cluster(f"{store}/photos/*/*.jpg", "--out", f"{store}/globbed")
    assert (globbed.code, "2 rows: 2 ok" in globbed.err) == (0, True)


def test_a_node_that_fails_loses_and_doubles_no_row(  # the last one: it takes a node of the cluster
    cluster: Any,
    on_cluster: Callable[..., Any],
    after_the_first_batch: Callable[[Callable[[], None]], list[int]],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
) -> None:
    node = next(node for node in cluster.worker_nodes)
    calls = after_the_first_batch(lambda: cluster.remove_node(node, allow_graceful=False))

    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_predictions(tmp_path / "preds")], len(calls)) == (3, plain, 1)


def test_an_address_without_a_cluster_is_an_error_of_one_line(
    inception: Inception, photos: Path, tmp_path: Path
) -> None:
    ended = inception(
        *("classify", photos, "-w", "demo", "--engine", "ray", "--out", tmp_path / "preds"),
        *("--ray-address", "127.0.0.1:1"),
    )

    assert (ended.code, ended.err.count("\n"), "127.0.0.1:1: no cluster there" in ended.err) == (1, 1, True)
