"""Progress bars in a terminal: a download, the images of a run, the epochs of a training."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import PurePath
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from inception_cli.cli.console import print_line, stderr, stdout
from inception_cli.predictions.intervals import percent
from inception_cli.predictions.text import harmless

if TYPE_CHECKING:
    from inception_cli.inference.runner import RunProgress
    from inception_cli.training.train import Trainer
    from inception_cli.weights.training_record import EpochResult

#: Width in characters of the bar, and of the texts beside it.
BAR_WIDTH, TEXT_WIDTH = 40, 58
#: Longest line where standard error is no terminal.
MAX_WIDTH = 200
#: Files of a sort between two updates: a file takes no longer than an update.
FILES_PER_UPDATE = 20


class ProgressBar(AbstractContextManager["ProgressBar"]):
    """A progress bar, only in a terminal: bytes of a download, then images. It is erased at the end.

    Where standard output is a terminal as well, the bar and the data share one console: each knows where the other is.
    """

    def __init__(self, description: str, quiet: bool) -> None:
        self.description = description
        self.data = stdout()  # the console for data while the bar is shown
        self.console = self.data if sys.stdout.isatty() and sys.stderr.isatty() else stderr()
        self.hidden = quiet or not self.console.is_terminal
        self.progress: Progress | None = None
        self.task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def erase(self) -> None:
        """Erase what is shown, so that a line can be printed."""
        self.__exit__()

    def loading(self, weights: Sequence[str]) -> None:
        """Show a spinner while torch and the weights are loaded, which takes seconds."""
        names = ", ".join(harmless(PurePath(name).name) for name in weights)
        self.working(f"loading {' and '.join(filter(None, ('PyTorch', names)))}")

    def working(self, description: str) -> None:
        """Show a spinner with what is being done."""
        self._show(description, [SpinnerColumn(), _description()])

    def preparing(self, description: str) -> None:
        """Show a spinner while something is done before the first row."""
        self.working(description)

    def downloading(self, name: str, done: int, total: int) -> None:
        """Show the bytes of a download."""
        self._show(f"downloading {name}", [*self._bar(), DownloadColumn(), TransferSpeedColumn()])
        self._update(completed=done, total=total or None)

    def update(self, progress: "RunProgress") -> None:
        """Show the images of a run: their number, rate, remaining time and failures."""
        rate, not_ok = _text("{task.fields[rate]:.1f} images/s"), _text("[red]{task.fields[not_ok]}")
        self._show(self.description, [*self._bar(), MofNCompleteColumn(), rate, TimeRemainingColumn(), not_ok])
        not_ok_so_far = f"{progress.not_ok:,} not ok" if progress.not_ok else ""
        self._update(total=progress.total, completed=progress.done, rate=progress.images_per_s, not_ok=not_ok_so_far)

    def files(self, done: int, total: int) -> None:
        """Show the files of a sort: their number, and the remaining time."""
        if done % FILES_PER_UPDATE == 0 or done == total:
            self._show(self.description, [*self._bar(), MofNCompleteColumn(), TimeRemainingColumn()])
            self._update(completed=done, total=total)

    def _bar(self) -> list[ProgressColumn]:
        return [_description(), BarColumn(min(BAR_WIDTH, max(5, self.console.width - TEXT_WIDTH)))]

    def _show(self, description: str, columns: list[ProgressColumn]) -> None:
        """Show these columns, unless those of this description are shown already."""
        if self.hidden or (self.progress and self.progress.tasks[0].description == description):
            return
        self.__exit__()
        # Rich would send what is printed on standard output to the console of the bar.
        self.progress = Progress(*columns, console=self.console, transient=True, redirect_stdout=False)
        self.task = self.progress.add_task(description, total=None, rate=0.0, not_ok="")
        self.progress.start()

    def _update(self, **fields: Any) -> None:
        if self.progress:
            self.progress.update(self.task, **fields)


class TrainingProgress(ProgressBar):
    """The progress of a training: a download bar, then a bar during each epoch and a line after it."""

    def __init__(self, quiet: bool) -> None:
        super().__init__("train", quiet)
        self.quiet = quiet
        self.started = 0.0  # when the epoch began, by the monotonic clock

    def training(self, trainer: "Trainer") -> None:
        """Show a spinner with the number of the epoch that is next; nothing after the last one."""
        self.description = f"training: epoch {len(trainer.history) + 1}/{trainer.config.epochs}"
        self.started = monotonic()
        if trainer.finished:
            self.__exit__()
        else:
            self.working(f"{self.description} …")

    def fitting(self) -> None:
        """Show a spinner while the last layer is fitted; `crops` then shows how far that is."""
        self.description, self.started = "fitting the last layer", monotonic()
        self.working(f"{self.description} …")

    def crops(self, done: int, total: int) -> None:
        """Show the crops of the epoch or the fit: number, rate and remaining time; after the last one a spinner."""
        if done == total:
            self.working(f"{self.description}, validation")
            return
        rate = _text("{task.fields[rate]:.1f} images/s")
        self._show(self.description, [*self._bar(), MofNCompleteColumn(), rate, TimeRemainingColumn()])
        self._update(total=total, completed=done, rate=done / (monotonic() - self.started))

    def epoch(self, epoch: "EpochResult", size: int, by_class: bool) -> None:
        """Print the figures of an epoch, on several lines where the terminal is too narrow for one.

        `size` is the input resolution in pixels; with `by_class` the mean accuracy of the classes is one of them.
        """
        self.erase()
        if not self.quiet:
            width = self.console.width if self.console.is_terminal else MAX_WIDTH
            for line in _lines(_figures(epoch, size, by_class), width):
                print_line(line)


def _figures(epoch: "EpochResult", size: int, by_class: bool) -> list[str]:
    """Return the figures of an epoch, each with its name."""
    figures = [
        f"epoch {epoch.number:>{len(str(epoch.planned))}}/{epoch.planned}{' *' if epoch.best else '  '}",
        f"loss {epoch.loss:.3f}",
        f"train {percent(epoch.train_top1):>5} %",
        f"val {percent(epoch.top1):>5} %",
        *([f"by class {percent(epoch.class_average):>5} %"] if by_class else []),
        f"crop {epoch.crop_size} of {size} px",
        f"{epoch.images_per_s:.0f} images/s",
    ]
    seconds = epoch.seconds_left
    left = f"{seconds / 60:.0f} min left" if seconds >= 100 else f"{seconds:.0f} s left"
    return [*figures, left] if seconds else figures


def _lines(figures: Sequence[str], width: int) -> list[str]:
    """Return figures in lines of at most `width` characters; the second line and later ones are indented."""
    lines = [figures[0]]
    for figure in figures[1:]:
        if len(lines[-1]) + 2 + len(figure) <= width:
            lines[-1] += f"  {figure}"
        else:
            lines.append(f"      {figure}")
    return lines


def _description() -> TextColumn:
    return _text("{task.description}", markup=False)


def _text(template: str, markup: bool = True) -> TextColumn:
    return TextColumn(template, markup=markup, table_column=Column(no_wrap=True))
