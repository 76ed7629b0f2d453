"""The connection to a Ray cluster for the length of a run."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from inception_cli import machine
from inception_cli.config import Settings
from inception_cli.errors import InceptionError, one_line
from inception_cli.files.streams import stderr_muted

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray would report each cluster to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # and warn of a future change
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # and of constructor arguments, which are Ray Data's own
    "RAY_worker_niceness": "0",  # decoding lowers its own priority; networks keep theirs
}
BLOCK_BYTES = 32 << 20  # pixels that are sent together


@contextmanager
def connected(settings: Settings) -> Iterator[None]:
    """Connect to the cluster of the settings, else of RAY_ADDRESS, else start one on this machine; close it at the end.

    Raises InceptionError when Ray is not installed or no cluster answers.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InceptionError('--engine ray needs Ray and pyarrow: pip install "ray[data]" pyarrow') from error
    address, before = settings.ray_address or os.environ.get("RAY_ADDRESS"), signal.getsignal(signal.SIGTERM)
    try:
        _check_port(address or "")
        options = {"address": address} if address else {"num_cpus": machine.cores(), "include_dashboard": False}
        with stderr_muted():  # Ray's own processes comment on ENVIRONMENT; errors arrive as exceptions
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise InceptionError(
            f"--ray-address {address}: no cluster there ({one_line(error)}); start one with: ray start"
        ) from error
    signal.signal(signal.SIGTERM, before)  # Ray's handler would end the program without a message
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.target_max_block_size = BLOCK_BYTES
    try:
        with _remote_errors():
            yield
    finally:
        ray.shutdown()


def _check_port(address: str) -> None:
    """Raise OSError when nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _remote_errors() -> Iterator[None]:
    """Raise an InceptionError of another machine as it was raised there."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            inner = getattr(cause, "cause", None)
            for each in (cause, inner):
                if isinstance(each, InceptionError) and not isinstance(each, RayError):
                    raise each from error
            cause = inner or cause.__cause__
        raise
