"""Photos unlike the training photos: the distances, their thresholds, and runs with `--familiar`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from records import run_config
from running import Inception
from safetensors import safe_open
from safetensors.torch import save_file
from stub_network import WEIGHTS, StubNetwork, familiarity
from torch import Tensor

from inception_cli import Classifier
from inception_cli.config import Thresholds
from inception_cli.errors import InceptionError
from inception_cli.images.dataset import load_batches
from inception_cli.inference import predictor
from inception_cli.inference.multi_gpu import MultiGpuPredictor
from inception_cli.network.familiarity import QUANTILES, Familiarity, fit, folds_of, statistics_of, too_few_photos
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.retune import for_saved_rows
from inception_cli.training import familiarity as training_familiarity
from inception_cli.training.dataset import Sample
from inception_cli.training.familiarity import measure_familiarity, sample_classes
from inception_cli.training.settings import TrainConfig
from inception_cli.weights.load import find_weights, load_familiarity
from inception_cli.weights.read import FAMILIARITY, read_checkpoint
from inception_cli.weights.registry import demo_file

Array = NDArray[np.float64]
ROOT = Path(__file__).parent.parent
#: Two classes in three dimensions, with a variance of 0.04 along the last one and 0.01 along the others.
BY_HAND = {
    "means": torch.eye(3)[:2],
    "directions": torch.tensor([[0.0, 0, 1]]),
    "variances": torch.tensor([0.04]),
    "rest": torch.tensor(0.01),
    "quantiles": torch.linspace(0, 100, QUANTILES),
    "photos": torch.tensor([7, 8]),
}


# ── Distances ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("features", "distance"),
    [
        ((0, 3, 4), 0.8**2 / 0.04 + 0.4**2 / 0.01),  # of length 1: (0, 0.6, 0.8); from the second mean (0, -0.4, 0.8)
        ((4, 0, 3), 0.6**2 / 0.04 + 0.2**2 / 0.01),  # (0.8, 0, 0.6), from the first mean
        ((5, 0, 0), 0),
        ((0, 0, -2), 1 / 0.04 + 1 / 0.01),
    ],
)
def test_distances_are_those_worked_out_by_hand(features: tuple[float, ...], distance: float) -> None:
    found = Familiarity.from_tensors(BY_HAND).distances(torch.tensor([features, features], dtype=torch.float32))

    assert found.tolist() == pytest.approx([distance, distance], abs=1e-4)


def test_a_threshold_is_a_quantile_of_the_held_out_distances() -> None:
    statistics = Familiarity.from_tensors(BY_HAND)

    assert [statistics.threshold(share) for share in (0.001, 0.5, 0.95, 0.9505)] == pytest.approx([0.1, 50, 95, 95.05])


@pytest.mark.parametrize(("photos", "rank"), [(60, 15), (2, 2)])  # of each class: more than features, and fewer
def test_statistics_equal_those_of_numpy(photos: int, rank: int) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(5 * photos, 16)) + 3 * np.repeat(np.eye(5, 16), photos, axis=0)
    scaled, labels = features / np.linalg.norm(features, axis=1, keepdims=True), np.repeat(np.arange(5), photos)

    found = statistics_of(torch.from_numpy(scaled), torch.from_numpy(labels), 5, rank)

    expected = distances_by_numpy(scaled, labels, scaled, rank)
    assert found.distances(torch.from_numpy(features)).numpy() == pytest.approx(expected, rel=1e-6)
    assert found.photos.tolist() == [photos] * 5


def distances_by_numpy(scaled: Array, labels: NDArray[np.int64], of: Array, rank: int) -> Array:
    """Return distances by the inverse of the whole covariance, in which the small variances are their mean."""
    means = np.stack([scaled[labels == label].mean(0) for label in range(5)])
    values, vectors = np.linalg.eigh(np.cov((scaled - means[labels]).T, bias=True))
    values[:-rank] = values[:-rank].mean()
    inverse = np.linalg.inv(vectors @ np.diag(values) @ vectors.T)
    differences = of[:, None] - means
    found: Array = np.einsum("ncd,de,nce->nc", differences, inverse, differences).min(1)
    return found


def test_thresholds_come_from_photos_that_are_held_out_in_runs_of_files() -> None:
    generator = np.random.default_rng(1)
    scaled = generator.normal(size=(100, 6))
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    labels = np.repeat(np.arange(5), 20)
    held_out = np.empty(100)
    for fold in range(5):
        outside = np.arange(100) % 20 // 4 == fold  # four consecutive files of each class
        held_out[outside] = distances_by_numpy(scaled[~outside], labels[~outside], scaled[outside], 5)

    statistics = fit(torch.from_numpy(scaled), torch.from_numpy(labels), 5)

    for share in (0.5, 0.9, 0.95):
        assert statistics.threshold(share) == pytest.approx(np.quantile(held_out, share), rel=1e-3)


def test_folds_are_runs_of_consecutive_files_of_each_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5 + [2] * 7)

    assert folds_of(labels).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, *range(5), 0, 0, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("counts", "enough"), [((50, 50), True), ((95, 5), True), ((96, 4), False), ((50, 49), False), ((100, 0), False)]
)
def test_statistics_need_100_photos_and_5_of_each_class(counts: tuple[int, int], enough: bool) -> None:
    reason = too_few_photos(torch.tensor([0] * counts[0] + [1] * counts[1]), 2)

    too_few = f"there are {sum(counts)} training photos, and {counts[1]} in the smallest class; "
    too_few += "it needs at least 100, and 5 in each class"
    assert reason == ("" if enough else too_few)


@pytest.mark.parametrize(
    "wrong",
    [
        {"means": torch.ones(2, 4)},
        {"means": torch.ones(0, 3), "photos": torch.ones(0)},
        {"directions": torch.tensor([[torch.nan, 0, 1]])},
        {"directions": torch.ones(3)},
        {"variances": torch.tensor([-0.04])},
        {"variances": torch.ones(2)},
        {"rest": torch.tensor(0.0)},
        {"quantiles": torch.linspace(0, 1, 5)},
        {"quantiles": torch.linspace(1, 0, QUANTILES)},
        {"photos": torch.ones(3)},
    ],
)
def test_damaged_statistics_are_refused_in_one_line(wrong: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({FAMILIARITY + name: tensor for name, tensor in (BY_HAND | wrong).items()}, file)

    with pytest.raises(InceptionError, match="damaged or outdated statistics") as error:
        load_familiarity(replace(WEIGHTS, name="mine", file=str(file)))

    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


# ── Networks and weights ─────────────────────────────────────────────────────────────────────────────────────────────


def test_statistics_of_the_last_features_are_refused_in_one_line(tmp_path: Path) -> None:
    """Versions that were never released wrote them."""
    file = tmp_path / "w.safetensors"
    earlier = {"means": torch.ones(10, 2048), "directions": torch.eye(1, 2048), "photos": torch.ones(10)}
    save_file({FAMILIARITY + name: tensor for name, tensor in (BY_HAND | earlier).items()}, file)

    with pytest.raises(InceptionError) as error:
        load_familiarity(replace(WEIGHTS, name="mine", file=str(file)))

    assert str(error.value) == (
        f"{file}: damaged or outdated statistics of the training photos: means has the shape (10, 2048); "
        "train the weights again"
    )


def test_the_bundled_weights_have_statistics_beside_their_network() -> None:
    weights = find_weights("demo")
    statistics = load_familiarity(weights)

    assert statistics.means.shape == (10, 1536)
    assert statistics.photos.sum() == 1990  # the training photos that the model card names
    assert [name for name in read_checkpoint(Path(weights.file)).tensors if name.startswith(FAMILIARITY)] == []


def test_training_photos_are_measured_with_the_network_as_it_runs(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def optimize(*_: object, middle_features: bool) -> StubNetwork:
        network = StubNetwork()
        network.returns = False, middle_features
        return network

    monkeypatch.setattr(training_familiarity, "optimize", optimize)
    monkeypatch.setattr(training_familiarity, "copy_modules", lambda network: network)
    monkeypatch.setattr("inception_cli.network.familiarity.MIN_PHOTOS", 60)
    files = sorted(str(file) for file in photos.rglob("*.jpg"))[:6]
    samples = [Sample(file, label) for label in range(2) for file in files for _ in range(5)]
    config = TrainConfig(tmp_path, tmp_path / "w.safetensors", size=75)

    found, reason = measure_familiarity(StubNetwork(), samples, 2, config)  # type: ignore[arg-type]

    features = middle_features_of([sample.path for sample in samples], config)
    expected = fit(features, torch.tensor([sample.label for sample in samples]), 2)
    assert found
    assert reason == ""
    assert torch.equal(found.means, expected.means)
    assert torch.equal(found.quantiles, expected.quantiles)


@pytest.mark.parametrize(
    ("photos", "count", "chosen"),
    [([3, 10, 30], 18, [3, 7, 8]), ([3, 10, 30], 43, [3, 10, 30]), ([40, 40], 11, [5, 6])],
)
def test_of_many_photos_the_same_number_of_each_class_is_measured(
    photos: list[int], count: int, chosen: list[int]
) -> None:
    samples = [Sample(f"{number:02}", label) for label, n in enumerate(photos) for number in range(n)]

    found = sample_classes(samples, count)

    assert np.bincount([sample.label for sample in found]).tolist() == chosen
    assert found == sorted({*found}, key=lambda sample: (sample.label, sample.path))
    for label, n in enumerate(photos):
        numbers = [int(sample.path) for sample in found if sample.label == label]
        assert (numbers[0], numbers[-1]) == (0, n - 1)
        assert np.ptp(np.diff(numbers)) <= 1


def middle_features_of(paths: list[str], config: TrainConfig | None = None) -> Tensor:
    """Return the stub's middle features of photos, which are decoded as in a run."""
    run = run_config(batch_size=8)
    pixels = replace(run.pixels, preset=config.preset) if config else run.pixels
    views = [batch.pixels[:, 0].permute(0, 3, 1, 2).float() for batch in load_batches(paths, pixels, run.loader)]
    return StubNetwork().middle_features(torch.cat(views))


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def command(photos: Path, stub: str) -> tuple[object, ...]:
    return ("classify", photos, "-w", stub, "-k", 3, "-b", 7, "-j", 0, "--decode", "exact")


@pytest.fixture
def rows(command: tuple[object, ...], inception: Inception, tmp_path: Path) -> list[Prediction]:
    inception(*command, "--familiar", SHARE, "--min-score", 0.6, "-o", tmp_path / "familiar.csv")
    return list(read_predictions(tmp_path / "familiar.csv"))


#: Makes some of the photos unfamiliar to the stub.
SHARE = 0.05


def test_photos_beyond_the_threshold_are_unknown(rows: list[Prediction]) -> None:
    ok = [row for row in rows if row.status == "ok"]
    statistics = familiarity(WEIGHTS)
    scaled = F.normalize(middle_features_of([row.path for row in ok])[:, :48]).double().numpy()
    differences = scaled[:, None] - statistics.means.double().numpy()
    along = differences @ statistics.directions.double().numpy().T
    rest = (differences**2).sum(2) - (along**2).sum(2)
    distances = ((along**2 / statistics.variances.numpy()).sum(2) + rest / statistics.rest.item()).min(1)
    far = distances > np.quantile(statistics.quantiles.numpy(), SHARE)

    assert 0 < far.sum() < len(ok)
    assert [row.decision.reason == "unfamiliar" for row in ok if row.decision] == far.tolist()
    assert {row.decision.label for row in ok if row.decision and row.decision.reason == "unfamiliar"} == {"unknown"}
    assert any(row.decision.reason == "low_score" for row in ok if row.decision)


def test_unfamiliar_photos_stay_so_on_saved_rows(rows: list[Prediction], inception: Inception, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{row.path},class 0\n" for row in rows))
    unfamiliar = sum(row.decision.reason == "unfamiliar" for row in rows if row.decision)

    ended = inception(
        "evaluate", "--predictions", tmp_path / "familiar.csv", "--labels", labels, "--json", "--min-score", 0
    )

    decisions = json.loads(ended.out)["decisions"]
    assert decisions["answered"]["n"] == decisions["photos"] - unfamiliar
    assert decisions["thresholds"] == {"min_score": 0.0, "rollup": None, "familiar": SHARE}


def test_a_run_resumes_with_its_share_only(
    command: tuple[object, ...], rows: list[Prediction], inception: Inception, tmp_path: Path
) -> None:
    finished = (tmp_path / "familiar.csv").read_bytes()
    manifest = json.loads((tmp_path / "familiar.csv.json").read_text())
    assert manifest["run"]["thresholds"] == {"min_score": 0.6, "rollup": None, "familiar": SHARE}
    part = tmp_path / "familiar.csv.part"
    names = [row.path for row in rows]
    part.write_bytes(b"".join(finished.splitlines(keepends=True)[:8]))
    Path(f"{part}.inputs").write_bytes(b"".join(name.encode() + b"\0" for name in names))
    manifest["counts"], manifest["n"], manifest["file"]["bytes"], manifest["images_per_s"] = {}, 0, None, None
    Path(f"{part}.json").write_text(json.dumps(manifest))
    for file in ("familiar.csv", "familiar.csv.json"):
        (tmp_path / file).unlink()

    words = (*command, "--min-score", 0.6, "-o", tmp_path / "familiar.csv")
    other, same = inception(*words, "--familiar", 0.9), inception(*words, "--familiar", SHARE)

    assert (other.code, same.code) == (1, 0), same.err
    assert "--familiar: 0.05 → 0.9" in other.err
    assert (tmp_path / "familiar.csv").read_bytes() == finished


def test_the_python_api_decides_like_the_command(rows: list[Prediction], stub: str, photos: Path) -> None:
    classifier = Classifier(stub, top_k=3, familiar=SHARE, min_score=0.6, decode="exact", batch_size=7, workers=0)

    assert classifier(photos) == rows


@pytest.mark.slow
def test_several_processes_decide_like_one(rows: list[Prediction], stub: str) -> None:
    run = Classifier(stub, top_k=3, familiar=SHARE, min_score=0.6, decode="exact", batch_size=7, workers=0).run
    paths = [row.path for row in rows]

    results = MultiGpuPredictor(run, ("cpu", "cpu")).predict(paths, [range(len(paths))])

    assert [row for result in results for row in result.predictions] == rows


def test_features_and_distances_of_one_run_are_those_of_two(
    command: tuple[object, ...], rows: list[Prediction], inception: Inception, tmp_path: Path
) -> None:
    inception(*command, "-o", tmp_path / "alone.csv", "--features", tmp_path / "alone.npy")

    options = ("--familiar", SHARE, "--min-score", 0.6, "--features", tmp_path / "both.npy")
    inception(*command, "-o", tmp_path / "both.csv", *options)

    assert list(read_predictions(tmp_path / "both.csv")) == rows
    np.testing.assert_array_equal(np.load(tmp_path / "both.npy"), np.load(tmp_path / "alone.npy"))


@pytest.mark.parametrize(("crops", "shipped", "centre"), [(1, 1, 0), (10, 10, 4), (12, 6, 4), (144, 72, 10)])
def test_the_distance_is_that_of_the_centre_whatever_the_crops(
    crops: int, shipped: int, centre: int, stub: str
) -> None:
    classifier = Classifier(stub, familiar=SHARE, crops=crops, decode="exact", workers=0)
    shape = (3, shipped, 75, 75, 3)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    *_, distances = classifier._predictor._best_classes(pixels)

    features = StubNetwork().middle_features(pixels[:, centre].permute(0, 3, 1, 2))
    torch.testing.assert_close(distances, familiarity(WEIGHTS).distances(features), rtol=1e-4, atol=1e-3)


def test_the_same_photos_are_unfamiliar_with_twelve_crops(
    command: tuple[object, ...], rows: list[Prediction], inception: Inception, tmp_path: Path
) -> None:
    inception(*command, "--familiar", SHARE, "--crops", 12, "-o", tmp_path / "crops.csv")

    unfamiliar = [
        [row.path for row in each if row.decision and row.decision.reason == "unfamiliar"]
        for each in (rows, read_predictions(tmp_path / "crops.csv"))
    ]
    assert unfamiliar[0] == unfamiliar[1]
    assert unfamiliar[0]


def test_a_run_without_the_option_computes_no_distance(
    command: tuple[object, ...], inception: Inception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(predictor, "load_familiarity", lambda _: pytest.fail("statistics were loaded"))
    monkeypatch.setattr(Familiarity, "distances", lambda *_: pytest.fail("distances were computed"))

    assert inception(*command, "--min-score", 0.6, "-o", tmp_path / "p.csv").code == 0


def test_the_end_of_a_run_mentions_the_option_where_the_weights_can_do_it(inception: Inception, tmp_path: Path) -> None:
    shutil.copy(ROOT / "sample_images" / "apple" / "apple-1.jpg", tmp_path)
    words = ("classify", tmp_path, "-w", "demo", "-j", 0, "-f", "-o", tmp_path / "p.csv")
    hint = "demo can tell photos that are unlike its training photos: --familiar 0.95"

    plain, quiet, with_it = inception(*words), inception(*words, "-q"), inception(*words, "--familiar", 0.999)

    assert [hint in ended.err for ended in (plain, quiet, with_it)] == [True, False, False]
    assert ",top1," in (tmp_path / "p.csv").read_text().splitlines()[1]


def test_weights_without_statistics_are_refused(inception: Inception, tmp_path: Path, photos: Path) -> None:
    with safe_open(demo_file(), framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys() if FAMILIARITY not in name}  # noqa: SIM118
        save_file(tensors, tmp_path / "w.safetensors", stream.metadata())

    ended = inception("classify", photos, "-w", tmp_path / "w.safetensors", "--familiar", 0.95)

    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "has no statistics of its training photos" in ended.err
    assert "inception train" in ended.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("classify", "a.jpg", "-w", "stub", "-w", "stub", "--familiar", 0.9), "familiar is for single weights"),
        (("classify", "a.jpg", "-w", "stub", "--familiar", 95), "--familiar 95: give a share above 0 and below 1"),
        (("classify", "a.jpg", "-w", "stub", "--familiar", 1), "--familiar 1: give a share"),
        (("evaluate", "--predictions", "p.csv", "--familiar", 0.9), "--familiar needs a run"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    words: tuple[object, ...],
    expected: str,
    inception: Inception,
    stub: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "sample_images" / "apple" / "apple-1.jpg", "a.jpg")
    Path("p.csv").write_text("path,status,top1_index,top1_label,top1_score,error\n")

    ended = inception(*words)

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert expected in ended.err


def test_thresholds_of_saved_rows_keep_the_share_of_their_run() -> None:
    run = Thresholds(0.5, None, 0.95)

    assert for_saved_rows(Thresholds(0.7), run) == Thresholds(0.7, None, 0.95)
    assert for_saved_rows(Thresholds(), run) == run
    assert str(run) == "--familiar 0.95 --min-score 0.5"
