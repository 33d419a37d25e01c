"""A cluster of two nodes of this machine against worker processes: wall time, and kills.

  python -m benchmarks.ray --repeats=3          # wall time, with as many workers
  python -m benchmarks.ray --kills=60           # SIGKILLs, against a run without any

Of the wall time the search alone counts, from the end of the first network's training to that of
the last child, and the whole command beside it; the cluster is there before. Kills come at random
moments, by turns to a worker, to a node (it is begun anew) and to the driver (it goes on by the
same command); each run is compared with one in processes: networks byte by byte, lines of the
ledger but for seconds and places, test accuracy. Results are added to a file, from which the same
command goes on. The exit status is 1 if anything differed.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from typing import Any

from absl import app, flags

from benchmarks.crashing import content
from benchmarks.machine import machine
from benchmarks.rows import add_row, read_rows
from nash_jax.runs import read_ledger

REPEATS = flags.DEFINE_integer("repeats", 0, "runs of each kind, for the wall time", lower_bound=0)
KILLS = flags.DEFINE_integer("kills", 0, "SIGKILLs in all", lower_bound=0)
PER_RUN = flags.DEFINE_integer("kills_per_run", 6, "before a run is let to its end", lower_bound=1)
PORT = flags.DEFINE_integer("port", 6399, "of the cluster")
FILE = flags.DEFINE_string("file", "ray.jsonl", "results, from which it goes on")
SEARCH = flags.DEFINE_list(
    "search",
    ["--dataset=digits", "--preset=digits", "--num_steps=2", "--num_neighbours=4"],
    "flags of the search",
)


class Cluster:
    """Two nodes of this machine, with a core each."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = f"127.0.0.1:{PORT.value}"
        head = ("--head", f"--port={PORT.value}", f"--temp-dir={folder}")
        self.begin("alpha", *head, "--include-dashboard=false")
        self.begin("beta", f"--address={self.address}")

    def begin(self, name: str, *options: str) -> None:
        """Begin a node, and wait until it is there."""
        log = self._folder / f"{name}.log"
        words = [str(pathlib.Path(sys.executable).with_name("ray")), "start", "--block", *options]
        words += [f"--node-name={name}", "--num-cpus=1", "--disable-usage-stats"]
        with log.open("wb") as file:
            node = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
        while b"Ray runtime started" not in log.read_bytes():
            if node.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        self._nodes[name] = node

    def processes(self, word: bytes) -> list[int]:
        """Processes of the nodes, with a word in their command."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if word in path.read_bytes() and self._is_ours(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except OSError:  # it has ended
                continue
        return found

    def _is_ours(self, pid: int) -> bool:
        """Whether a process, or one that began it, has the folder in its command."""
        if str(self._folder).encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(stat[1]) > 1 and self._is_ours(int(stat[1]))

    def kill(self, what: str) -> int:
        """Kill a worker, or the second node; how many processes were there to be killed."""
        found = self.processes(b"ray::Worker" if what == "worker" else b"--node-name=beta")
        for pid in found[:1] if what == "worker" else found:
            os.kill(pid, signal.SIGKILL)
        if what == "node":
            self._nodes["beta"].wait()
            self.begin("beta", f"--address={self.address}")
        return len(found)

    def close(self) -> None:
        for pid in self.processes(b""):
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        for node in self._nodes.values():
            node.kill()
            node.wait()


def search(workdir: pathlib.Path, *options: str) -> subprocess.Popen[str]:
    """Begin or go on with a search."""
    command = [sys.executable, "-m", "nash_jax.cli", "search", *SEARCH.value, *options]
    command += [f"--workdir={workdir}", "--progress=plain", "--cache_dir=none", "--workers=2"]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str]) -> bool:
    """Wait for a run's end; whether it was killed. Any other end than these two is an error."""
    output, _ = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the run ended with status {process.returncode}:\n{output}")
    return process.returncode != 0


def seconds_of(workdir: pathlib.Path) -> float:
    """Of the search: from the first network to the last child."""
    lines = {line["name"]: line["elapsed"] for line in read_ledger(workdir)}
    children = [elapsed for name, elapsed in lines.items() if "child" in name]
    return float(round(max(children) - lines["model_0"], 3))


def measure(folder: pathlib.Path, cluster: Cluster) -> None:
    """Wall times, the kinds by turns."""
    kinds = {
        "processes": ["--executor=processes"],
        "ray": ["--executor=ray", f"--address={cluster.address}"],
    }
    for repeat in range(REPEATS.value):
        for kind, options in kinds.items():
            known = [row for row in read_rows(FILE.value) if row.get("kind") == kind]
            if any(row["repeat"] == repeat for row in known):
                continue
            workdir, start = folder / f"{kind}{repeat}", time.perf_counter()
            finish(search(workdir, *options))
            whole = time.perf_counter() - start
            row: dict[str, Any] = {"kind": kind, "repeat": repeat, "whole_s": round(whole, 2)}
            add_row(FILE.value, {**row, "search_s": seconds_of(workdir), **machine()})
    print("| | search s | whole command s |\n|---|---|---|")
    medians = {}
    for kind in kinds:
        rows = [row for row in read_rows(FILE.value) if row.get("kind") == kind]
        medians[kind] = [
            statistics.median(row[part] for row in rows) for part in ("search_s", "whole_s")
        ]
        print(f"| {kind} | {medians[kind][0]:.1f} | {medians[kind][1]:.1f} |")
    ratios = [ray / processes for ray, processes in zip(medians["ray"], medians["processes"])]
    print(f"\nmedians of {REPEATS.value}; ray / processes: {ratios[0]:.2f}, {ratios[1]:.2f}")


def killed() -> list[dict[str, Any]]:
    """The runs with kills that are there."""
    return [row for row in read_rows(FILE.value) if "kills" in row]


def kill(folder: pathlib.Path, cluster: Cluster) -> int:
    """Kill until there were enough kills; how many things differed."""
    finish(search(folder / "undisturbed", "--executor=processes"))
    expected = content(folder / "undisturbed")
    seconds = max(line["elapsed"] for line in read_ledger(folder / "undisturbed"))
    while (before := sum(sum(row["kills"].values()) for row in killed())) < KILLS.value:
        rng, workdir = random.Random(before), folder / f"killed{before}"
        kills = {"worker": 0, "node": 0, "driver": 0}
        options = ["--executor=ray", f"--address={cluster.address}", "--checkpoint_seconds=0"]
        process = search(workdir, *options)
        while sum(kills.values()) < PER_RUN.value and process.poll() is None:
            time.sleep(rng.uniform(0, seconds / 2))
            if process.poll() is not None:
                break
            what = rng.choice(sorted(kills))
            if what == "driver":
                process.kill()
                finish(process)
                process = search(workdir, *options)
            elif not cluster.kill(what):
                continue
            kills[what] += 1
        finish(process)
        found = content(workdir)
        differing = [name for name in expected | found if expected.get(name) != found.get(name)]
        failed = [line["name"] for line in read_ledger(workdir) if "failure" in line]
        add_row(FILE.value, {"kills": kills, "differing": differing, "failed": failed, **machine()})
    done = killed()
    totals = {what: sum(row["kills"][what] for row in done) for what in done[0]["kills"]}
    differences = sum(len(row["differing"]) for row in done)
    print(f"{json.dumps(totals)} kills in {len(done)} runs: {differences} differences")
    return differences


def main(_: list[str]) -> None:
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=str(uuid.uuid4()))
    differences = 0
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as temporary:  # sockets' paths
        folder = pathlib.Path(temporary)
        cluster = Cluster(folder)
        try:
            if REPEATS.value:
                measure(folder, cluster)
            if KILLS.value:
                differences = kill(folder, cluster)
        finally:
            cluster.close()
    sys.exit(bool(differences))


if __name__ == "__main__":
    app.run(main)
