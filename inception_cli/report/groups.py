"""Group the photos of the gallery: by class, or by the label of their decision, with the tree as its contents."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from inception_cli.predictions.decision import UNKNOWN
from inception_cli.predictions.tree import Tree
from inception_cli.report.samples import Sample, Samples


@dataclass(frozen=True)
class Group:
    """The photos of the gallery with one class or label."""

    anchor: str
    name: str
    photos: int  # of all rows; `samples` are those that are shown
    samples: list[Sample]


@dataclass
class Entry:
    """A line of the gallery's contents: a node of the tree or a label, with the photos that are under it."""

    name: str
    photos: int = 0
    anchor: str = ""  # of the group with this label; "": no photo has it
    entries: dict[str, "Entry"] = field(default_factory=dict)  # by name, the most frequent first

    def walk(self) -> Iterator["Entry"]:
        """Yield this entry and those under it."""
        yield self
        for entry in self.entries.values():
            yield from entry.walk()


def by_class(samples: Samples) -> list[Group]:
    """Return a group for each top-1 class, the most frequent first."""
    return [
        Group(f"class-{index}", samples.class_names[index], n, samples.gallery[index])
        for index, n in samples.classes.most_common()
        if index in samples.gallery
    ]


def by_label(samples: Samples, contents: Entry) -> list[Group]:
    """Return a group for each label, in the order of the contents."""
    return [
        Group(entry.anchor, entry.name, samples.labels[entry.name], samples.gallery[entry.name])
        for entry in contents.walk()
        if entry.anchor and entry.name in samples.gallery
    ]


def tree_contents(labels: Mapping[str, int], tree: Tree | None) -> Entry:
    """Return the labels under the nodes of the tree above them, `unknown` last; `labels` counts the photos of each."""
    root = Entry("")
    for number, (label, photos) in enumerate(labels.items()):
        entry = root
        entry.photos += photos
        for name in _names_down(label, tree):
            entry = entry.entries.setdefault(name, Entry(name))
            entry.photos += photos
        entry.anchor = f"label-{number}"
    for entry in [*root.walk()]:
        ranked = sorted(entry.entries.items(), key=lambda item: (item[0] == UNKNOWN, -item[1].photos))
        entry.entries = dict(ranked)
    return root


def _names_down(label: str, tree: Tree | None) -> list[str]:
    """Return the displayed names of the nodes above a label from the root down, and the label."""
    node = tree.find(label) if tree else None
    above = [tree.name(each) for each in tree.ancestors(node)] if tree and node else []
    return [*above, label]
