"""`--engine ray`: the rows of the plain run, whatever dies on the way; clusters of two nodes on this machine."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import Inception

from inception_cli.results import parts
from inception_cli.results.formats import read_rows
from inception_cli.results.rows import Prediction
from inception_cli.stores import locate, nearby

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'inception-cli[ray-test]'")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]

BUCKET = "s3://bucket"


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A store like S3 on this machine, with an empty bucket; in the environment, where clusters find it."""
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
def inputs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Drawn photos and files that are none."""
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
    monkeypatch.setattr(parts, "shard_size", lambda images, per_batch: 8)
    words = ("--engine", "ray", "--ray-address", cluster.address, "-w", checkpoint, "--precision", "fp32", "-b", 4)
    return lambda *more: inception("classify", *words, "--decode", "exact", *more)


@pytest.fixture
def plain(
    inputs: list[str], checkpoint: Path, inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Prediction]:
    """The rows that a run without a cluster makes, by one thread."""
    monkeypatch.setattr("inception_cli.settings.cores", lambda: 1)
    out = tmp_path / "plain.csv"
    ended = inception(
        *("classify", *inputs, "-w", checkpoint, "--precision", "fp32", "-b", 4, "--decode", "exact", "--out", out)
    )
    assert ended.code == 3
    return [*read_rows(out)]


def test_rows_of_two_nodes_are_those_of_the_plain_run(
    on_cluster: Callable[..., Any], inputs: list[str], plain: list[Prediction], tmp_path: Path
) -> None:
    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_rows(tmp_path / "preds")]) == (3, plain)
    assert len({row.classes[0] for row in plain if row.classes}) > len(plain) // 3  # or any network would do
    assert sorted(file.name for file in (tmp_path / "preds").iterdir()) == [
        "_manifest.json",
        *(f"part-0000{shard}.parquet" for shard in range(4)),
    ]


def networks_at_work() -> list[int]:
    """The processes of the actors of this process's clusters."""

    def parents(process: int) -> Iterator[int]:
        while process > 1:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            yield process

    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker") and os.getpid() in parents(
                int(folder.name)
            ):
                found.append(int(folder.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.fixture
def befall(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], list[int]]:
    """Let something happen when the first rows have come; the list tells that it did."""

    def arrange(happen: Callable[[], None]) -> list[int]:
        add, happened = parts.Parts.add, list[int]()

        def added(self: parts.Parts, position: int, rows: bytes, k: int) -> list[Prediction]:
            if not happened:
                happened.append(position)
                happen()
            return add(self, position, rows, k)

        monkeypatch.setattr(parts.Parts, "add", added)
        return happened

    return arrange


def test_killed_actor_loses_nothing_and_doubles_nothing(
    on_cluster: Callable[..., Any],
    befall: Callable[[Callable[[], None]], list[int]],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
) -> None:
    killed = []

    def kill() -> None:
        for process in networks_at_work():
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    befall(kill)
    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_rows(tmp_path / "preds")]) == (3, plain)
    assert killed


def test_interrupted_run_goes_on_from_its_finished_parts(
    on_cluster: Callable[..., Any],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "preds"
    put = parts.Parts._put

    def interrupting(self: parts.Parts, name: str, data: bytes) -> None:
        put(self, name, data)
        if name.startswith("part-"):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "_put", interrupting)
        ended = on_cluster(*inputs, "--out", out)
    finished = {file: file.stat().st_mtime_ns for file in out.glob("part-*")}
    assert (ended.code, len(finished)) == (130, 1)
    assert "the same command goes on" in ended.err

    other = on_cluster(*inputs, "--out", out, "--top-k", 2)
    assert (other.code, "top_k: 5 → 2" in other.err, "--restart" in other.err) == (1, True, True)

    ended = on_cluster(*inputs, "--out", out)
    assert (ended.code, [*read_rows(out)]) == (3, plain)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert "(8 of them by the run that was interrupted)" in ended.err


def test_store_is_read_and_written(
    on_cluster: Callable[..., Any], store: str, photos: Path, inception: Inception, tmp_path: Path
) -> None:
    files, folder = locate(store + "/photos")
    names = ["a/0 ä.jpg", "a/1%20.JPG", "b/2.jpg", ".hidden/3.jpg", "broken.png", "notes.txt"]
    for name, photo in zip(names, sorted(photos.rglob("*.jpg")), strict=False):
        data = photo.read_bytes() if name.lower().endswith(".jpg") else b"none"
        with files.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(data)
    listed = [f"{store}/photos/{name}" for name in ("a/0 ä.jpg", "a/1%20.JPG", "b/2.jpg", "broken.png")]

    ended = on_cluster(f"{store}/photos", f"{store}/photos/gone.jpg", "--out", f"{store}/preds")

    assert (ended.code, "passed over: 1 .txt" in ended.err) == (3, True)
    with nearby(f"{store}/preds") as preds:
        assert sorted(file.name for file in preds.iterdir()) == ["_manifest.json", "part-00000.parquet"]
        found = [*read_rows(preds)]
    assert [(row.path, row.status) for row in found] == [
        *((path, "ok" if path.lower().endswith("jpg") else "corrupt") for path in listed),
        (f"{store}/photos/gone.jpg", "missing"),
    ]
    again = on_cluster(f"{store}/photos", "--out", f"{store}/preds")
    assert (again.code, "holds a finished run" in again.err) == (1, True)
    shown = inception("report", f"{store}/preds", "--out", tmp_path / "report.html")
    assert (shown.code, "data:image/jpeg" in (tmp_path / "report.html").read_text()) == (0, True)
    (tmp_path / "labels.csv").write_text("path,label\n0 ä.jpg,tench\n2.jpg,goldfish\n")
    judged = inception("evaluate", "--predictions", f"{store}/preds", "--labels", tmp_path / "labels.csv", "--json")
    assert (judged.code, json.loads(judged.out)["n"]) == (0, 2)
    globbed = on_cluster(f"{store}/photos/*/*.jpg", "--out", f"{store}/globbed")
    assert (globbed.code, "2 rows: 2 ok" in globbed.err) == (0, True)


def test_lost_node_loses_nothing_and_doubles_nothing(  # the last one: it takes a node of the cluster
    cluster: Any,
    on_cluster: Callable[..., Any],
    befall: Callable[[Callable[[], None]], list[int]],
    inputs: list[str],
    plain: list[Prediction],
    tmp_path: Path,
) -> None:
    node = next(node for node in cluster.worker_nodes)
    happened = befall(lambda: cluster.remove_node(node, allow_graceful=False))

    ended = on_cluster(*inputs, "--out", tmp_path / "preds")

    assert (ended.code, [*read_rows(tmp_path / "preds")], len(happened)) == (3, plain, 1)


def test_no_cluster_at_an_address_is_told(inception: Inception, photos: Path, tmp_path: Path) -> None:
    ended = inception(
        *("classify", photos, "-w", "demo", "--engine", "ray", "--out", tmp_path / "preds"),
        *("--ray-address", "127.0.0.1:1"),
    )

    assert (ended.code, ended.err.count("\n"), "127.0.0.1:1: no cluster there" in ended.err) == (1, 1, True)
