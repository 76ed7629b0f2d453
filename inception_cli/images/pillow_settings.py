"""Pillow's global settings while images are decoded."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from PIL import Image, ImageFile

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints its messages on standard error


class _StrictPillow:
    """A context manager that sets Pillow's global settings, whatever the process had set, and restores them.

    Pillow refuses more than twice MAX_IMAGE_PIXELS; that covers tiles and frames, whose size the header does not give.
    Truncated images are errors, and warnings about metadata are ignored. Several threads may decode at the same time:
    the first one to enter makes the settings, the last one to leave restores them.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again in a forked process, which has no thread that would release the lock or leave the block."""
        self._lock = Lock()
        self._threads = 0
        self._saved = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.catch_warnings()

    @contextmanager
    def __call__(self, max_pixels: int) -> Iterator[None]:
        with self._lock:
            if self._threads == 0:
                self._saved = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, warnings.catch_warnings()
                self._saved[2].__enter__()
                warnings.simplefilter("ignore")
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = (max_pixels + 1) // 2, False
            self._threads += 1
        try:
            yield
        finally:
            with self._lock:
                self._threads -= 1
                if self._threads == 0:
                    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, caught = self._saved
                    caught.__exit__(None, None, None)


strict_pillow = _StrictPillow()
os.register_at_fork(after_in_child=strict_pillow.reset)
