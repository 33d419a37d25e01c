"""How long a GPU computes nothing during a search: by JAX's profiler, and by `nvidia-smi`."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import rich.console

from nash_jax.reporting import Progress
from nash_jax.runs import Config, Result, execute, open_run
from nash_jax.training import compilation

MAX_EVENTS = 16_000_000  # that the profiler keeps


def union_seconds(intervals: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in any of the intervals, each from start to end in nanoseconds.

    >>> union_seconds([(0, 2e9), (1e9, 3e9), (5e9, 6e9)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1e9


def kernel_intervals(profile: Any) -> list[list[tuple[float, float]]]:
    """For each GPU, when something ran on its streams; copies from and to the host do not count."""
    return [
        [
            (event.start_ns, event.start_ns + event.duration_ns)
            for line in plane.lines
            if line.name.startswith("Stream")
            for event in line.events
            if not event.name.startswith(("MemcpyH2D", "MemcpyD2H"))
        ]
        for plane in profile.planes
        if plane.name.startswith("/device:GPU:")
    ]


def run_search(config: Config) -> Result:
    """A search in this process; its workdir is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = rich.console.Console(quiet=True)
        with Progress(quiet) as tell, open_run(config, pathlib.Path(folder)) as opened:
            return execute(opened, tell)


def busy_and_whole(config: Config) -> dict[str, Any]:
    """The seconds of a search, and for each GPU those in which something ran on it.

    The search runs twice, once as it is and once under the profiler, which slows every launch down
    but leaves the kernels as long as they are.

    Raises:
      ValueError: if the profile has no kernels, or may lack some.
    """
    compilation._programs.clear()  # as at the start of a search: nothing is compiled
    plain = run_search(config)
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level = options.python_tracer_level = 0
    options.advanced_configuration = {"gpu_max_activity_api_events": MAX_EVENTS}
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            traced = run_search(config)
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        gpus = kernel_intervals(jax.profiler.ProfileData.from_file(str(path)))
    kernels = [len(intervals) for intervals in gpus]
    if not any(kernels):
        raise ValueError(f"no {'kernels' if gpus else 'GPU plane'} in the profile")
    if sum(kernels) > 0.9 * MAX_EVENTS:
        raise ValueError(
            f"kernels must be at most {0.9 * MAX_EVENTS:,.0f}, or the profile may lack some; got "
            f"{sum(kernels):,}; lower --idle_epochs or --idle_steps"
        )
    return {
        "seconds": plain.seconds,
        "seconds_with_profiler": traced.seconds,
        "busy_seconds": [union_seconds(intervals) for intervals in gpus],
        "kernels": kernels,
        "chosen": [plain.best.parent, traced.best.parent],
    }


@contextlib.contextmanager
def utilisation() -> Iterator[Callable[[], list[float]]]:
    """Samples of the share of time in which a GPU ran a kernel; none without nvidia-smi."""
    query = ("nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-l1")
    if shutil.which(query[0]) is None:
        yield lambda: []
        return
    with tempfile.TemporaryFile("w+") as lines, subprocess.Popen(query, stdout=lines) as sampler:

        def samples() -> list[float]:
            lines.seek(0)
            return parse_utilisation(lines.read())

        try:
            yield samples
        finally:
            sampler.terminate()


def parse_utilisation(text: str) -> list[float]:
    """The shares in nvidia-smi's lines of per cent; a last line that is not whole is left out.

    >>> parse_utilisation("50\\n100\\n9")
    [0.5, 1.0]
    """
    whole = text[: text.rfind("\n") + 1].split()
    return [int(word) / 100 for word in whole if word.isdecimal()]
