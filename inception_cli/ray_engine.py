"""The same, on a cluster: Ray Data decodes in tasks, the network classifies in a pool of actors.

Whatever a process or a node is at when it dies, Ray Data does again: batches come out once each, in any order.
"""

import os
import pickle
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inception_cli.cluster import Engine
from inception_cli.images.inputs import PathList
from inception_cli.images.loader import Batch, batches, images_per_batch
from inception_cli.images.remote import fetched
from inception_cli.network.optimize import Plan
from inception_cli.predict import Networks
from inception_cli.results.rows import to_csv
from inception_cli.settings import Run, Settings, resolve_plan
from inception_cli.stores import is_remote

if TYPE_CHECKING:
    from ray import ObjectRef

#: Photos of a store that a decoding task holds at once.
FETCHED = 128
#: Decoding tasks that a shard is cut into, so that small runs keep every core busy.
TASKS_PER_SHARD = 4
#: A network's process: activations come from one arena, as they do in a main thread, which keeps them (glibc); threads
#: that wait for one another spin for a short while only.
NETWORK_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "GOMP_SPINCOUNT": "100000"}


@dataclass(frozen=True)
class Done:
    """A batch's rows, as CSV, of the images from `position` on; `at_once`: how many memory had room for, if fewer."""

    position: int
    rows: bytes
    at_once: int | None


def plan(settings: Settings, earlier: Run | None, images: int) -> Plan:
    """Where the network runs, as a machine of the cluster decides it: one with a GPU where there is one."""
    import ray

    gpus = 1 if settings.device != "cpu" and ray.cluster_resources().get("GPU") else 0
    # A process that used a GPU ends, for its memory; any other one goes on with decoding.
    decide = ray.remote(num_gpus=gpus, num_cpus=0, max_calls=gpus)(resolve_plan)
    decided: Plan = ray.get(decide.remote(settings, earlier, images))
    return decided


def actors_and_threads(engine: Engine, device: str) -> tuple[int, int]:
    """How many networks: one a GPU, else one a node; and the threads of each, its share of the cores."""
    import ray

    has = ray.cluster_resources()
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    actors = engine.actors or int(has.get("GPU", 0) if device.startswith("cuda") else len([n for n in nodes if n])) or 1
    return actors, max(1, int(min(sum(nodes) / actors, max(nodes))))


def classify(paths: PathList, shards: Iterable[range], run: Run, actors: int) -> Iterator[Done]:
    """The rows of the images at the positions of `shards`, a batch at a time, in any order."""
    import ray
    from ray.data import ActorPoolStrategy, from_items

    per_batch = images_per_batch(run.loading.batch_size, run.pixels.crops)
    cut = [piece for shard in shards for piece in _cut(shard, per_batch)]
    waiting = any(is_remote(paths[piece.start]) for piece in cut)
    pieces = [{"first": piece.start, "paths": paths.encoded(piece)} for piece in cut]
    stored = [ray.put(Path(each.file).read_bytes()) for each in run.weights]  # nodes need not have them, nor a network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoded = from_items(pieces, override_num_blocks=len(pieces)).flat_map(
            _decode,
            fn_kwargs={"run": run, "folder": str(Path.cwd())},
            num_cpus=0.5 if waiting else 1,  # while one waits for its files, another decodes
        )
        # No core is set aside for a network: were they all, nothing could be decoded after a node is lost.
        classified = decoded.map(
            _Actor,
            fn_constructor_args=(run, stored),
            compute=ActorPoolStrategy(size=actors),
            num_cpus=0,
            num_gpus=1 if run.plan.device.startswith("cuda") else 0,
            runtime_env={"env_vars": NETWORK_ENVIRONMENT},
        )
    for row in classified.iter_rows():
        yield Done(row["first"], row["rows"], row["at_once"] or None)


def _cut(shard: range, per_batch: int) -> Iterator[range]:
    """The positions of a shard in pieces of whole batches, one for each decoding task."""
    step = -(-len(shard) // (TASKS_PER_SHARD * per_batch)) * per_batch
    for first in shard[::step]:
        yield range(first, min(first + step, shard.stop))


def _decode(piece: dict[str, Any], run: Run, folder: str) -> Iterator[dict[str, Any]]:
    """Batches of views, by a process of their own, since one file may bring it down."""
    with suppress(OSError):
        os.chdir(folder)  # paths are as the user typed them
    paths = PathList(piece["paths"])
    loading = replace(run.loading, workers=1)
    per_batch = images_per_batch(loading.batch_size, run.pixels.crops)
    step = -(-(FETCHED if is_remote(paths[0]) else len(paths)) // per_batch) * per_batch
    for start in range(0, len(paths), step):
        some = range(start, min(start + step, len(paths)))
        for batch in batches(fetched(paths[some.start : some.stop]), run.pixels, loading):
            first = start + batch.first
            yield {
                "first": piece["first"] + first,
                "paths": paths.encoded(range(first, first + len(batch))),
                "pixels": batch.pixels.numpy(),
                "rest": pickle.dumps((batch.failures, batch.jpegs)),
            }


class _Actor:
    """An actor: the networks of a run, and rows from the batches that come."""

    def __init__(self, run: Run, stored: "Sequence[ObjectRef[bytes]]") -> None:
        import ray

        with tempfile.TemporaryDirectory() as folder:
            found = []
            for number, (each, data) in enumerate(zip(run.weights, ray.get([*stored]), strict=True)):
                file = Path(folder, f"{number}{Path(each.file).suffix}")
                file.write_bytes(data)
                found.append(replace(each, file=str(file)))
            self.networks = Networks(replace(run, weights=tuple(found)))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        pixels = torch.from_numpy(batch["pixels"].copy())  # what Ray hands over must not be written to
        (decoded,) = self.networks.decoded([Batch(0, pixels, *pickle.loads(batch["rest"]))])
        table = to_csv(self.networks.rows(PathList(batch["paths"]), decoded), self.networks.run.top_k)
        return {"first": batch["first"], "rows": table, "at_once": self.networks.at_once or 0}
