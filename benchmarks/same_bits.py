"""Whether another commit finds the same networks, bit by bit: a check of pure refactorings.

  python -m benchmarks.same_bits --commit=HEAD~1 --extra=--preset=digits

Clones the repository at the other commit, runs the launcher there and here with the same flags, and
compares edits, estimates and weights of all networks that are kept.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import safetensors.numpy
from absl import app, flags

from benchmarks.machine import machine

COMMIT = flags.DEFINE_string("commit", "HEAD", "to compare what is here with")
EXTRA = flags.DEFINE_multi_string("extra", ["--preset=digits"], "flags for experiments.nash")
ROOT = pathlib.Path(__file__).parents[1]
COMPARED = ("parent", "edits", "validation_accuracy", "validation_loss", "train_losses", "spec")


def lines_of(workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """What the ledger says of every trial, but for times and places."""
    lines = map(json.loads, (workdir / "ledger.jsonl").read_text().splitlines())
    return {
        line["name"]: {key: line.get(key) for key in (*COMPARED, "test_accuracy", "test_loss")}
        for line in lines
        if "name" in line
    }


def networks_of(workdir: pathlib.Path) -> dict[str, dict[str, np.ndarray]]:
    paths = sorted((workdir / "networks").iterdir())
    return {path.name: safetensors.numpy.load_file(path) for path in paths}


def main(argv: list[str]) -> None:
    del argv
    with tempfile.TemporaryDirectory() as folder:
        other = pathlib.Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, other], check=True)
        subprocess.run(["git", "-C", other, "checkout", "--quiet", COMMIT.value], check=True)
        workdirs = {}
        for name, place in (("there", other), ("here", ROOT)):
            workdirs[name] = pathlib.Path(folder, name)
            command = [sys.executable, "-m", "experiments.nash", "--progress=quiet"]
            command += [*EXTRA.value, "--cache_dir=none", f"--workdir={workdirs[name]}"]
            subprocess.run(command, cwd=place, check=True)
        there, here = (lines_of(workdir) for workdir in workdirs.values())
        before, after = (networks_of(workdir) for workdir in workdirs.values())
    differing = [name for name in there.keys() | here.keys() if there.get(name) != here.get(name)]
    arrays = 0
    for name in before.keys() | after.keys():
        old, new = before.get(name, {}), after.get(name, {})
        arrays += len(new)
        if old.keys() != new.keys() or not all((old[key] == new[key]).all() for key in new):
            differing.append(name)
    print(f"{machine()}; {COMMIT.value} against {ROOT.name}: {' '.join(EXTRA.value)}")
    print(f"{len(here)} trials, {len(after)} networks of {arrays} arrays; differing: ", end="")
    print(", ".join(sorted(differing)) or "none")
    sys.exit(bool(differing))


if __name__ == "__main__":
    app.run(main)
