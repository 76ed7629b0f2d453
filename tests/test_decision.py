"""Which label a photo gets: every rule, on score vectors and sums that are worked out by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

from inception_cli.config import Classes, Thresholds
from inception_cli.predictions.decision import Decision, decide, parse_path, path_text
from inception_cli.predictions.tree import Tree, imagenet_tree, tree_of

PETS = Classes(
    ("husky", "malamute", "tabby", "carton"),
    (("husky", "dog"), ("malamute", "dog"), ("tabby", "cat"), ("dog", "animal"), ("cat", "animal")),
)


def pets() -> Tree:
    tree = tree_of(PETS)
    assert tree
    return tree


def decision_of(scores: list[float], thresholds: Thresholds, unfamiliar: bool = False) -> Decision:
    """Return the decision for the scores of husky, malamute, tabby and carton, which has no parent."""
    (path,) = pets().paths(np.array([scores], np.float32))
    best = int(np.argmax(scores))
    return decide(PETS.names[best], scores[best], path, thresholds, pets(), unfamiliar)


@pytest.mark.parametrize(
    ("scores", "path"),
    [
        ([0.38, 0.35, 0.20, 0.07], "animal:0.93>dog:0.73"),
        ([0.90, 0.05, 0.03, 0.02], "animal:0.98>dog:0.95>husky:0.9"),
        ([0.30, 0.05, 0.45, 0.20], "animal:0.8"),  # dog 0.35, cat 0.45
        ([0.10, 0.05, 0.05, 0.80], "carton:0.8"),  # outside the tree
        ([0.20, 0.05, 0.25, 0.50], ""),
        ([0.25, 0.25, 0.50, 0.00], "animal:1"),  # neither of two halves is above 0.5
    ],
)
def test_the_path_holds_the_sums_above_a_half(scores: list[float], path: str) -> None:
    assert path_text(pets().paths(np.array([scores], np.float32))[0]) == path


@pytest.mark.parametrize(
    ("rollup", "label", "score", "reason"),
    [
        (0.51, "dog", 0.73, "rollup"),
        (0.73, "dog", 0.73, "rollup"),
        (0.74, "animal", 0.93, "rollup"),
        (0.93, "animal", 0.93, "rollup"),
        (0.94, "unknown", 0.38, "low_score"),  # nothing above
    ],
)
def test_rollup_takes_the_last_node_that_reaches_the_sum(rollup: float, label: str, score: float, reason: str) -> None:
    decided = decision_of([0.38, 0.35, 0.20, 0.07], Thresholds(rollup=rollup))

    assert (decided.label, decided.score, decided.reason) == (label, score, reason)


def test_rollup_keeps_a_class_that_reaches_the_sum_alone() -> None:
    decided = decision_of([0.90, 0.05, 0.03, 0.02], Thresholds(rollup=0.9))

    assert (decided.label, decided.score, decided.reason) == ("husky", 0.9, "top1")


def test_rollup_sums_over_branches_that_do_not_hold_the_best_class() -> None:
    decided = decision_of([0.30, 0.30, 0.40, 0.00], Thresholds(rollup=0.55))  # tabby is best, but dogs are 0.6

    assert (decided.label, decided.score, decided.reason) == ("dog", 0.6, "rollup")


def test_a_class_outside_the_tree_is_a_label_only_by_its_own_score() -> None:
    assert decision_of([0.1, 0.05, 0.05, 0.8], Thresholds(rollup=0.8)).label == "carton"
    low = decision_of([0.1, 0.05, 0.05, 0.8], Thresholds(rollup=0.81))
    assert (low.label, low.score, low.reason) == ("unknown", 0.8, "low_score")


@pytest.mark.parametrize(("min_score", "label"), [(0, "husky"), (0.38, "husky"), (0.380001, "unknown")])
def test_min_score_makes_a_lower_label_unknown(min_score: float, label: str) -> None:
    decided = decision_of([0.38, 0.35, 0.20, 0.07], Thresholds(min_score))

    assert (decided.label, decided.score) == (label, 0.38)
    assert decided.reason == ("low_score" if label == "unknown" else "top1")


def test_min_score_follows_rollup_and_is_of_the_label() -> None:
    assert decision_of([0.38, 0.35, 0.20, 0.07], Thresholds(0.73, 0.7)).label == "dog"
    low = decision_of([0.38, 0.35, 0.20, 0.07], Thresholds(0.74, 0.7))
    assert (low.label, low.score, low.reason) == ("unknown", 0.73, "low_score")


def test_unfamiliar_comes_first() -> None:
    decided = decision_of([0.38, 0.35, 0.20, 0.07], Thresholds(0.1, 0.7), unfamiliar=True)

    assert (decided.label, decided.score, decided.reason) == ("unknown", 0.38, "unfamiliar")
    assert path_text(decided.path) == "animal:0.93>dog:0.73"


def test_scores_are_compared_as_they_are_printed() -> None:
    scores = np.array([[0.4, 0.2999996, 0.2, 0.1000004], [0.4, 0.2999994, 0.2, 0.1000006]])

    assert [path_text(path) for path in pets().paths(scores)] == ["animal:0.9>dog:0.7", "animal:0.899999>dog:0.699999"]
    assert decision_of(scores[0].tolist(), Thresholds(rollup=0.7)).label == "dog"
    assert decision_of(scores[1].tolist(), Thresholds(rollup=0.7)).label == "animal"


def test_a_hidden_node_is_on_no_path() -> None:
    tree = Tree(
        PETS.names, PETS.names, dict(PETS.parents), {"dog": "dog", "cat": "cat", "animal": "x"}, frozenset({"dog"})
    )

    (path,) = tree.paths(np.array([[0.38, 0.35, 0.2, 0.07]]))
    assert path_text(path) == "animal:0.93"
    decided = decide("husky", 0.38, (("animal", 0.93), ("dog", 0.73)), Thresholds(rollup=0.7), tree)
    assert (decided.label, decided.score) == ("x", 0.93)  # the displayed name


def test_the_sum_at_the_root_is_one() -> None:
    tree = imagenet_tree()
    logits = 6 * np.random.default_rng(0).normal(size=(64, 1000)).astype(np.float32)
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)  # softmax in fp32

    sums = tree.sums(scores)

    assert tree.nodes[0] == "n00001740"
    np.testing.assert_allclose(sums[:, 0], 1, rtol=0, atol=1e-5)


def test_sums_equal_plain_sums_over_the_classes_under_each_node() -> None:
    tree = imagenet_tree()
    scores = np.random.default_rng(1).dirichlet(np.full(1000, 0.02), size=20)

    sums = tree.sums(scores)

    expected = [[math.fsum(row[tree.classes_under(node)]) for node in tree.nodes] for row in scores]
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-12)


def test_each_node_of_a_path_is_under_the_one_before_and_not_hidden() -> None:
    tree = imagenet_tree()
    paths = tree.paths(np.random.default_rng(2).dirichlet(np.full(1000, 0.001), size=200))

    assert len({path[-1][0] for path in paths if path}) > 50
    for path in paths:
        nodes, sums = [node for node, _ in path], [score for _, score in path]
        assert sums == sorted(sums, reverse=True)
        assert not tree.hidden & set(nodes)
        assert all(above in tree.ancestors(below) for above, below in pairwise(nodes))


@pytest.mark.parametrize("text", ["", "n1:0.9", "n00015388:0.981>n02084071:0.964", "a: b:0.75"])
def test_a_path_is_read_as_it_was_written(text: str) -> None:
    assert path_text(parse_path(text)) == text


@pytest.mark.parametrize("text", ["n1", "n1:", ":0.9", "n1:0.5", "n1:2", "n1:nan", "n1:0.9>", "n1:0.9>>n2:0.8", "n1:x"])
def test_a_damaged_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="label_path has"):
        parse_path(text)


def test_a_node_that_the_tree_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="node unicorn, which is not in the tree"):
        decide("husky", 0.4, (("unicorn", 0.9),), Thresholds(rollup=0.8), pets())


@pytest.mark.parametrize(
    ("min_score", "rollup"), [(-0.1, None), (1.1, None), (math.nan, None), (None, 0.5), (None, 1.01), (None, math.nan)]
)
def test_impossible_thresholds_are_refused(min_score: float | None, rollup: float | None) -> None:
    with pytest.raises(ValueError, match=r"min_score must be|rollup must be"):
        Thresholds(min_score, rollup)
