"""The tree above a model's classes: ImageNet's from WordNet, or that of own classes. Sums of scores up the tree.

`data/imagenet_tree.csv` holds ImageNet's: the wnid of each node and class, its parent, the displayed name of a node,
and a mark for nodes that are never a label since they mean nothing to people (entity, whole, instrumentality, ...).
Classes have their names from `data/imagenet.csv`.
"""

import csv
import io
import os.path
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError, UsageError, excerpt
from inception_cli.files.text_list import read_text_file
from inception_cli.predictions.classes import (
    MAX_BYTES,
    MAX_LINES,
    class_lookup,
    imagenet,
    is_imagenet,
    recognise,
    synsets,
)
from inception_cli.predictions.decision import TreePath, as_printed

#: Printed sums above this are on a path: at most one node of each level can have one.
HALF = 0.5
#: Subsets of ImageNet's classes: those of ImageNet-A and ImageNet-R.
SUBSETS = ("a", "r")


@dataclass(frozen=True, eq=False)
class Tree:
    """Nodes above C classes. A node is known by its id: ImageNet's wnid, else its name; so is a class."""

    classes: tuple[str, ...]  # ids of the classes, in the model's order
    class_names: tuple[str, ...]
    parents: Mapping[str, str]  # by id of a class or node; a root has none
    names: Mapping[str, str]  # displayed, by id of a node; unique, also among `class_names`
    hidden: frozenset[str]  # ids of nodes that are never a label

    def is_class(self, node: str) -> bool:
        """Return whether an id is that of a class; ValueError for an unknown id."""
        if node in self._position:
            return True
        self.name(node)
        return False

    def is_hidden(self, node: str) -> bool:
        """Return whether a node is never a label."""
        return node in self.hidden

    def name(self, node: str) -> str:
        """Return the displayed name of a node; ValueError for an unknown id."""
        try:
            return self.names[node]
        except KeyError:
            raise ValueError(f"label_path has the node {node}, which is not in the tree of these classes") from None

    def ancestors(self, node: str) -> list[str]:
        """Return the ids of the nodes above a class or node that are not hidden, from the root down."""
        above = []
        while node in self.parents:
            node = self.parents[node]
            above.append(node)
        return [each for each in reversed(above) if each not in self.hidden]

    def names_above(self, label: str) -> list[str]:
        """Return the displayed names of the nodes above a class or node with this name; [] if there is none."""
        node = self.find_label(label)
        return [self.name(each) for each in self.ancestors(node)] if node else []

    def classes_under(self, node: str) -> NDArray[np.int64]:
        """Return the model indices of the classes under a node, or of the class itself, ascending."""
        if node in self._position:
            return np.array([self._position[node]])
        first, stop = self._ranges[node]
        return np.sort(self._order[first:stop])

    def find_label(self, label: str) -> str | None:
        """Return the id of the class or node with this displayed name; None if there is none."""
        return self._by_name.get(label)

    def find(self, text: str) -> str | None:
        """Return the id of the node or class with this id or displayed name; None if there is none."""
        return text if text in self.names or text in self._position else self.find_label(text)

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The ids of the nodes above the classes; each before those under it."""
        return tuple(self._ranges)

    def sums(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the sums (N, M) of the scores (N, C) of the classes under each of the M `nodes`.

        They are differences of running totals: the classes under a node are consecutive in `_order`.
        """
        first, stop = self._bounds
        sums, totals = np.empty((len(scores), len(first))), np.zeros(len(self.classes) + 1)
        for row, each in enumerate(scores):  # one row at a time: 8 kB of totals stay in the cache
            np.cumsum(each.take(self._order), dtype=np.float64, out=totals[1:])
            np.subtract(totals[stop], totals[first], out=sums[row])
        return sums

    def paths(self, scores: NDArray[np.floating]) -> list[TreePath]:
        """Return the path of each photo from its scores (N, C) of all classes."""
        sums, nodes, stops = self.sums(scores), self.nodes, self._bounds[1]
        heavy = np.nonzero((sums > HALF) & ~self._is_hidden)
        found: list[list[tuple[str, float]]] = [[] for _ in scores]
        ends = [len(self.classes)] * len(scores)  # of each photo's last node, in `_order`
        columns = (*heavy, sums[heavy], stops[heavy[1]])
        for row, place, total, stop in zip(*(column.tolist() for column in columns), strict=True):
            if (printed := as_printed(total)) > HALF and stop <= ends[row]:  # rounding could let two neighbours pass
                found[row].append((nodes[place], printed))
                ends[row] = stop
        for row, (place, score) in enumerate(zip(scores.argmax(1).tolist(), scores.max(1).tolist(), strict=True)):
            if (printed := as_printed(score)) > HALF:
                found[row].append((self.classes[place], printed))
        return [*map(tuple, found)]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {node: index for index, node in enumerate(self.classes)}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        classes = dict(zip(self.class_names, self.classes, strict=True))
        return classes | {name: node for node, name in self.names.items()}

    @cached_property
    def _is_hidden(self) -> NDArray[np.bool_]:
        return np.array([node in self.hidden for node in self.nodes], bool)

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """The first place and the end of each node's classes in `_order`, (2, M)."""
        return np.array([*self._ranges.values()], np.int64).reshape(-1, 2).T

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        """Model indices in an order in which the classes under any node are consecutive."""
        return np.array(self._walk[0], np.int64)

    @cached_property
    def _ranges(self) -> dict[str, tuple[int, int]]:
        """The classes under each node as a range of `_order`; each node before those under it."""
        return self._walk[1]

    @cached_property
    def _walk(self) -> tuple[list[int], dict[str, tuple[int, int]]]:
        """Return `_order` and `_ranges` of a walk through the tree, the first child of a node first."""
        children: defaultdict[str, list[str]] = defaultdict(list)
        for child, parent in self.parents.items():
            children[parent].append(child)
        roots = [node for node in (*self.names, *self.classes) if node not in self.parents]
        order: list[int] = []
        ranges: dict[str, tuple[int, int]] = {}
        stack = [(root, True) for root in reversed(roots)]
        while stack:
            node, entering = stack.pop()
            if node in self._position:
                order.append(self._position[node])
            elif entering:
                ranges[node] = (len(order), -1)
                stack += [(node, False), *((child, True) for child in reversed(children[node]))]
            else:
                ranges[node] = (ranges[node][0], len(order))
        return order, ranges


def tree_of(classes: Classes) -> Tree | None:
    """Return the tree above the classes of a model: their own, else ImageNet's; None if they have none."""
    if classes.parents:
        return _own_tree(classes)
    return imagenet_tree() if is_imagenet(classes) else None


@cache
def imagenet_tree() -> Tree:
    """Return the nodes of WordNet above ImageNet-1k's classes."""
    table = files("inception_cli").joinpath("data", "imagenet_tree.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(table)))
    return Tree(
        classes=tuple(synset.wnid for synset in synsets()),
        class_names=imagenet().names,
        parents={row["wnid"]: row["parent"] for row in rows if row["parent"]},
        names={row["wnid"]: row["name"] for row in rows if row["name"]},
        hidden=frozenset(row["wnid"] for row in rows if row["hidden"]),
    )


@cache
def _own_tree(classes: Classes) -> Tree:
    """Return the tree that a file of class names has brought; names are ids."""
    parents = dict(classes.parents)
    nodes = dict.fromkeys(name for pair in classes.parents for name in reversed(pair) if name not in classes.index)
    return Tree(classes.names, classes.names, parents, {node: node for node in nodes}, frozenset())


def require_tree(classes: Classes, thresholds: Thresholds) -> None:
    """Raise UsageError if `rollup` was requested for classes without a tree."""
    if thresholds.rollup is not None and tree_of(classes) is None:
        raise UsageError(
            f"rollup needs a tree above the classes, and {', '.join(map(excerpt, classes.names[:3]))}, … have none; "
            "classify with --classes FILE.csv, which has a column parent, or leave it out"
        )


def find_classes(only_classes: str, classes: Classes) -> tuple[int, ...]:
    """Return the model indices of a subset of classes.

    It is a file with one class per line (a wnid, a name or an index), else `a` or `r` (ImageNet-A's or -R's 200
    classes), else nodes of the tree or classes, separated by commas: displayed names or wnids.
    """
    if _is_file(only_classes) or "/" in only_classes or Path(only_classes).suffix in (".txt", ".csv"):
        return _read_subset(only_classes, classes)
    if only_classes in SUBSETS:
        if not is_imagenet(classes):
            raise UsageError(
                f"only_classes {only_classes} is for ImageNet's classes, not for these {len(classes)}; give a file"
            )
        return tuple(synset.index for synset in synsets() if (synset.in_a if only_classes == "a" else synset.in_r))
    found = [_find_node(name.strip(), classes) for name in _split(only_classes, classes)]
    return tuple(sorted({index for indices in found for index in indices}))


def file_before_node(only_classes: str, classes: Classes) -> str:
    """Return a sentence if `only_classes` names both a file, which is read, and something else; else ""."""
    if not _is_file(only_classes):
        return ""
    named = only_classes in SUBSETS or all(
        _find_node(each.strip(), classes, required=False) for each in _split(only_classes, classes)
    )
    return f"only_classes: the file {only_classes} is read; it is not taken for the name of classes" if named else ""


def _is_file(name: str) -> bool:
    return os.path.isfile(name)  # noqa: PTH113 - Path.is_file raises an error for a name that is too long


def _split(text: str, classes: Classes) -> list[str]:
    """Return the names in a list with commas, unless a single class or node has commas in its name."""
    return [text] if _find_node(text, classes, required=False) else text.split(",")


def _find_node(name: str, classes: Classes, required: bool = True) -> tuple[int, ...]:
    """Return the model indices of the classes under a node, or of a class; () or UsageError if there is none."""
    tree = tree_of(classes)
    if tree and (node := tree.find(name)):
        return tuple(tree.classes_under(node).tolist())
    if (index := class_lookup("name", classes)(name)) >= 0:
        return (index,)
    if required:
        if not name:
            raise UsageError("only_classes: a name is missing beside a comma; leave the comma out")
        known = [*classes.names, *(tree.names.values() if tree else ())]
        nearest = get_close_matches(name, known, n=1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "give a, r, a file with one class per line, or names"
        raise UsageError(f"only_classes: {excerpt(repr(name))} is no file and no class: {remedy}")
    return ()


def _read_subset(file: str, classes: Classes) -> tuple[int, ...]:
    """Return the model indices of the classes in a file, one per line."""
    remedy = "give one wnid, name or index per line"
    lines = read_text_file(Path(file), MAX_BYTES, MAX_LINES, "give a, r, or a file with one class per line")
    texts = [line.strip() for line in lines if line.strip()]
    lookup = class_lookup(recognise(texts, classes) or "name", classes)
    if not texts:
        raise InceptionError(f"{file}: the file is empty; {remedy}")
    if unknown := [text for text in texts if lookup(text) < 0]:
        raise InceptionError(f"{file}: {excerpt(unknown[0])} is not a class; {remedy}")
    return tuple(sorted({lookup(text) for text in texts}))
