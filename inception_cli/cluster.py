"""A Ray cluster, for as long as a run needs it: found or begun, kept quiet, its errors told as this program's own."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from inception_cli.errors import InceptionError
from inception_cli.settings import cores
from inception_cli.stores import MISSING

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray tells its makers of each cluster otherwise
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # and warns of what it will do one day
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # and of constructor arguments, which are Ray Data's own
    "RAY_worker_niceness": "0",  # decoding stands back by itself; networks need not
}
BLOCK_BYTES = 32 << 20  # pixels that travel together


@dataclass(frozen=True)
class Engine:
    """Which cluster (none: one of this machine's cores, for the run), and how many networks work there (0: auto)."""

    address: str = ""
    actors: int = 0


@contextmanager
def connected(engine: Engine) -> Iterator[None]:
    """The cluster, for as long as this is entered; InceptionError when there is none."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InceptionError(f"--engine ray {MISSING}") from error
    address, before = engine.address or os.environ.get("RAY_ADDRESS"), signal.getsignal(signal.SIGTERM)
    try:
        _knock(address or "")
        options = {"address": address} if address else {"num_cpus": cores(), "include_dashboard": False}
        with _muted():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InceptionError(f"--ray-address {address}: no cluster there ({reason}); start one: ray start") from error
    signal.signal(signal.SIGTERM, before)  # Ray's own would end without a word
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    try:
        with _telling():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _muted() -> Iterator[None]:
    """Keep off the terminal what Ray's own processes tell of QUIET; errors come as exceptions."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def _knock(address: str) -> None:
    """OSError when nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _telling() -> Iterator[None]:
    """What went wrong for the user on another machine is told as if it had been here."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            told = getattr(cause, "cause", None)
            for one in (cause, told):
                if isinstance(one, InceptionError) and not isinstance(one, RayError):
                    raise one from error
            cause = told or cause.__cause__
        raise
