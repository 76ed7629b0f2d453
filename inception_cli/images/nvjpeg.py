"""JPEG files as they are → views, on a GPU: nvJPEG decodes, the GPU resizes. What it does not take, Pillow does."""

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from importlib.metadata import version
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.images import tensors
from inception_cli.images.decode import Failure, Fetched, Jpeg, read
from inception_cli.images.loader import Batch
from inception_cli.images.preprocess import Pixels, shipped, views

#: Pixels that are decoded together: 200 MB as they are, 800 MB while they are resized.
AT_ONCE = 64_000_000


class Decoder:
    """The files of a batch → its views, on the device `device`, beside whatever else it is at.

    InceptionError when this torchvision cannot. On "cpu" torchvision's own decoder stands in for nvJPEG.
    """

    def __init__(self, pixels: Pixels, device: str) -> None:
        self.pixels, self.device = pixels, torch.device(device)
        cuda = self.device.type == "cuda"
        self._stream = torch.cuda.Stream(self.device) if cuda else None  # type: ignore[no-untyped-call]
        sample = BytesIO()
        Image.new("RGB", (16, 16)).save(sample, "JPEG")
        try:
            self._pictures([np.frombuffer(bytearray(sample.getvalue()), np.uint8)])
        except (RuntimeError, ImportError) as error:  # ImportError: a torchvision that has no decoders any more
            raise InceptionError(
                f"--decode gpu: torchvision {version('torchvision')} decodes nothing on {device}; leave it out"
            ) from error

    def __call__(self, batch: Batch) -> Batch:
        """The batch with a slot (V, S, S, 3) for each image, on the device, when it is there."""
        files = batch.jpegs.files() if batch.jpegs else {}
        slots = set(range(len(batch))) - files.keys()
        failures = list(batch.failures)
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            side = self.pixels.preset.size
            made = torch.zeros(
                len(batch), shipped(self.pixels.crops), side, side, 3, dtype=torch.uint8, device=self.device
            )
            made[sorted(slots)] = batch.pixels.to(self.device, non_blocking=True)
            for offsets in _together(files):
                for places, found in self._views({offset: files[offset] for offset in offsets}):
                    if isinstance(found, Failure):
                        failures += [(place, found) for place in places]
                    else:
                        made[places] = found
        if self._stream:
            made.record_stream(torch.cuda.current_stream(self.device))
            self._stream.synchronize()
        return Batch(batch.first, made, tuple(sorted(failures, key=lambda failure: failure[0])))

    def _views(self, files: dict[int, Jpeg]) -> Iterator[tuple[list[int], Tensor | Failure]]:
        """The views (n, V, S, S, 3) of n files, or why there are none: together, else one by one, else by Pillow."""
        try:
            yield from self._by_device(files)
        except RuntimeError:  # one that nvJPEG does not take; or no memory
            for offset, file in files.items():
                try:
                    yield from self._by_device({offset: file})
                except RuntimeError:
                    yield [offset], self._by_pillow(file)

    def _by_device(self, files: dict[int, Jpeg]) -> list[tuple[list[int], Tensor]]:
        """The views of all, those alike in size together; RuntimeError when one cannot be decoded."""
        pictures = self._pictures([file.data for file in files.values()])
        alike: defaultdict[tuple[torch.Size, int], dict[int, Tensor]] = defaultdict(dict)
        for picture, (offset, file) in zip(pictures, files.items(), strict=True):
            alike[picture.shape, file.turn][offset] = picture
        return [
            ([*group], tensors.views(tensors.turned(torch.stack([*group.values()]), turn), self.pixels))
            for (_, turn), group in alike.items()
        ]

    def _pictures(self, files: Sequence[NDArray[np.uint8]]) -> list[Tensor]:
        """RGB uint8 (3, height, width), each."""
        from torchvision.io import ImageReadMode, decode_jpeg  # here: other runs need not wait for torchvision

        if self._stream:
            # nvJPEG's engine writes before what is queued on the stream whose memory it is given has been done
            # (pytorch/vision pull request 9606): so nothing may be queued there.
            self._stream.synchronize()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            data = [*map(torch.from_numpy, files)]
            found: list[Tensor] = decode_jpeg(data, mode=ImageReadMode.RGB, device=self.device)
        return found

    def _by_pillow(self, file: Jpeg) -> Tensor | Failure:
        image = read(Fetched("a.jpg", file.data.tobytes()), self.pixels)
        return image if isinstance(image, Failure) else torch.from_numpy(views(image, self.pixels)).to(self.device)


def _together(files: dict[int, Jpeg]) -> Iterator[list[int]]:
    """The offsets of the files, in runs of no more than AT_ONCE pixels, or of one."""
    run: list[int] = []
    held = 0
    for offset, file in files.items():
        if run and held + file.pixels > AT_ONCE:
            yield run
            run, held = [], 0
        run.append(offset)
        held += file.pixels
    if run:
        yield run
