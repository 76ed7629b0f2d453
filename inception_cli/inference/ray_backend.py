"""Predictions on a Ray cluster: Ray Data decodes in tasks, and a pool of actors runs the networks.

Ray Data repeats the work of a process or node that dies: each batch arrives once, in any order.
"""

import os
import pickle
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inception_cli.config import Plan, RunConfig, Settings
from inception_cli.files.remote import is_remote
from inception_cli.images.dataset import Batch, load_batches
from inception_cli.images.fetch import fetch_remote
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.inference.resolve import resolve_plan
from inception_cli.storage.input_list import InputList
from inception_cli.weights.read import files_of

if TYPE_CHECKING:
    from ray import ObjectRef

#: Remote images that a decoding task holds at once.
REMOTE_IMAGES = 128
#: Decoding tasks per shard, so that small runs keep every core busy.
TASKS_PER_SHARD = 4
#: Environment of a network's process. One malloc arena: glibc then keeps the memory of activations, as in a main
#: thread. A short spin time: waiting threads leave the cores to others.
ACTOR_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "GOMP_SPINCOUNT": "100000"}


def resolve_cluster_plan(settings: Settings, earlier: RunConfig | None, images: int) -> Plan:
    """Return where and how the networks run, resolved on a machine of the cluster: one with a GPU if there is one."""
    import ray

    gpus = 1 if settings.device != "cpu" and ray.cluster_resources().get("GPU") else 0
    # max_calls: a process that has used a GPU ends, to release its memory; any other one goes on to decode.
    remote_plan = ray.remote(num_gpus=gpus, num_cpus=0, max_calls=gpus)(resolve_plan)
    plan: Plan = ray.get(remote_plan.remote(settings, earlier, images))
    return plan if earlier else replace(plan, threads=_threads(count_actors(settings, plan)))


def count_actors(settings: Settings, plan: Plan) -> int:
    """Return the number of networks in the cluster: one per GPU, else one per node."""
    import ray

    if settings.actors != "auto":
        return settings.actors
    if plan.device.startswith("cuda"):
        return int(ray.cluster_resources().get("GPU", 0)) or 1
    return sum(1 for cores in _cores_of_nodes() if cores) or 1


class RayPredictor:
    """The networks of a run in the actors of a cluster (see Predictor); batches arrive in any order."""

    def __init__(self, run: RunConfig, actors: int, directory: str) -> None:
        self.run, self.actors, self.directory = run, actors, directory

    def predict(self, paths: Sequence[str], pending: Sequence[range]) -> Iterator[BatchResult]:
        """Yield the predictions of the inputs at the `pending` positions, a batch at a time, in any order."""
        import ray
        from ray.data import ActorPoolStrategy, from_items

        if not isinstance(paths, InputList):
            raise TypeError("a cluster reads its inputs from an InputList")
        run = self.run
        pieces = [piece for shard in pending for piece in _split_shard(shard, run.images_per_batch)]
        if not pieces:
            return
        remote = any(is_remote(paths[piece.start]) for piece in pieces)
        items = [{"first": piece.start, "paths": paths.encoded(piece)} for piece in pieces]
        # Nodes need no copy of the files.
        stored = [ray.put({file.name: file.read_bytes() for file in files_of(Path(each.file))}) for each in run.weights]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            decoded = from_items(items, override_num_blocks=len(items)).flat_map(
                _decode,
                fn_kwargs={"run": run, "directory": self.directory},
                num_cpus=0.5 if remote else 1,  # while one task waits for its files, another one decodes
            )
            # num_cpus=0: if networks reserved all cores, nothing could be decoded after a node is lost.
            predicted = decoded.map(
                _Actor,
                fn_constructor_args=(run, stored),
                compute=ActorPoolStrategy(size=self.actors),
                num_cpus=0,
                num_gpus=1 if run.plan.device.startswith("cuda") else 0,
                runtime_env={"env_vars": ACTOR_ENVIRONMENT},
            )
        for row in predicted.iter_rows():
            yield pickle.loads(row["result"])


def _cores_of_nodes() -> list[float]:
    import ray

    return [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]


def _threads(actors: int) -> int:
    """Return the CPU threads of each network: its share of the cores, at most those of a node."""
    cores = _cores_of_nodes()
    return max(1, int(min(sum(cores) / actors, max(cores))))


def _split_shard(shard: range, images_per_batch: int) -> Iterator[range]:
    """Yield the positions of a shard in pieces of whole batches, one for each decoding task."""
    step = -(-len(shard) // (TASKS_PER_SHARD * images_per_batch)) * images_per_batch
    for first in shard[::step]:
        yield range(first, min(first + step, shard.stop))


def _decode(piece: dict[str, Any], run: RunConfig, directory: str) -> Iterator[dict[str, Any]]:
    """Yield batches of views; they are decoded in a worker process, since a file may crash it."""
    with suppress(OSError):
        os.chdir(directory)  # paths are as the user typed them
    paths, size = InputList(piece["paths"]), run.images_per_batch
    loader = replace(run.loader, workers=1)
    step = -(-(REMOTE_IMAGES if is_remote(paths[0]) else len(paths)) // size) * size
    for start in range(0, len(paths), step):
        positions = range(start, min(start + step, len(paths)))
        sources = fetch_remote(paths[positions.start : positions.stop])
        for batch in load_batches(sources, run.pixels, loader):
            first = start + batch.first
            yield {
                "first": piece["first"] + first,
                "paths": paths.encoded(range(first, first + len(batch))),
                "pixels": batch.pixels.numpy(),
                "rest": pickle.dumps((batch.failures, batch.jpegs)),
            }


class _Actor:
    """An actor of the cluster: the networks of a run, which predict the batches that it receives."""

    def __init__(self, run: RunConfig, stored: "Sequence[ObjectRef[dict[str, bytes]]]") -> None:
        import ray

        with tempfile.TemporaryDirectory() as folder:
            weights = []
            for number, (each, files) in enumerate(zip(run.weights, ray.get([*stored]), strict=True)):
                place = Path(folder, str(number))
                place.mkdir()
                for name, data in files.items():
                    (place / name).write_bytes(data)
                weights.append(replace(each, file=str(place / Path(each.file).name)))
            self._predictor = DevicePredictor(replace(run, weights=tuple(weights))).load()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        pixels = torch.from_numpy(row["pixels"].copy())  # Ray's memory is read-only
        (batch,) = self._predictor.decode_on_device([Batch(0, pixels, *pickle.loads(row["rest"]))])
        result = self._predictor.predict_batch(InputList(row["paths"]), batch)
        return {"result": pickle.dumps(replace(result, first=row["first"]))}
