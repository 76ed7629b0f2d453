"""What a shell may complete. Words of its own: those of settings and weights stand beside torch, which takes seconds
to import; a test holds them equal."""

from collections.abc import Callable

WEIGHTS = ("torchvision", "mmpretrain", "timm-tv", "timm-tf", "timm-adv", "timm-gluon", "demo")
STARTS = (*WEIGHTS, "scratch")
PRESETS = ("torchvision", "mmpretrain", "timm", "timm-gluon")
CROPS = ("1", "10", "12", "144")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DECODES = ("fast", "exact", "gpu")
COMPILE = ("auto", "on", "off")
LABEL_FORMS = ("wnid", "name", "number", "minus-1", "plus-1", "ilsvrc", "rank", "rank-1", "sorted")


def among(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    """Those of the words that begin as what is typed; where none does, shells offer files."""

    def begun(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return begun
