"""A cluster of Ray's: two nodes of this machine, which see neither data nor the run's folder."""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import jax
import numpy as np
import pytest
from helpers import TINY, Silent, history, run

import nash_jax as nj
from nash_jax import machine, runs, training
from nash_jax.execution import ray as ray_module
from nash_jax.execution.ray_cluster import Size
from nash_jax.execution.ray_worker import about_this
from nash_jax.runs.places import Place

pytestmark = pytest.mark.usefixtures("program_cache")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def has_path_in(pid, folder):
    """Whether a process was begun with a folder in its command, or by one that was."""
    try:
        if folder.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            return True
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return False
    return stat[0] != "Z" and int(stat[1]) > 1 and has_path_in(int(stat[1]), folder)


def processes(folder, word=b""):
    """The processes of a cluster that has its files in a folder, with a word in their command."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if command and word in command and has_path_in(int(path.parent.name), folder):
            found.append(int(path.parent.name))
    return found


class Cluster:
    """Two nodes, alpha and beta, with a core each, that do not see the folder `hidden`."""

    def __init__(self, folder, hidden):
        self.folder, self.hidden = folder, hidden
        self.address = f"127.0.0.1:{free_port()}"
        ours = ("NPROC", "XLA_FLAGS", "JAX_PLATFORMS", "GLIBC_TUNABLES")
        self.environment = {k: v for k, v in os.environ.items() if k not in ours}
        self.programs = []
        port = self.address.rpartition(":")[2]
        head = ("--head", f"--port={port}", f"--temp-dir={folder}", "--include-dashboard=false")
        self.begin("alpha", *head, f"--ray-client-server-port={free_port()}")
        self.begin("beta", f"--address={self.address}")

    def begin(self, name, *options):
        """Begin a node, and wait until it is there."""
        words = [os.path.join(os.path.dirname(sys.executable), "ray"), "start", "--block"]
        words += [f"--node-name={name}", "--num-cpus=1", "--disable-usage-stats", *options]
        words += ["--object-store-memory=80000000"]
        hide = f'mount -t tmpfs none "{self.hidden}" && exec "$@"'
        log = pathlib.Path(self.folder, name)
        with log.open("wb") as file:
            program = subprocess.Popen(
                ["unshare", "--map-root-user", "--mount", "sh", "-c", hide, "sh", *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd="/",
            )
        self.programs.append(program)
        while b"Ray runtime started" not in log.read_bytes():
            assert program.poll() is None, log.read_text()
            time.sleep(0.1)

    def end(self):
        """Kill all processes, and wait until they are gone."""
        left = processes(self.folder)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for program in self.programs:
            program.wait()
        start = time.monotonic()
        while processes(self.folder) or any(pathlib.Path(f"/proc/{pid}").exists() for pid in left):
            assert time.monotonic() - start < 30
            time.sleep(0.1)


needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed")


@pytest.fixture(scope="module", autouse=True)
def _token():
    """What each node of a cluster must know; Ray reads it when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", str(uuid.uuid4()))
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    try:  # as root, or where users may have namespaces
        subprocess.run(["unshare", "--map-root-user", "--mount", "true"], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nodes cannot have file systems of their own here")
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # paths of sockets are short
    begun = Cluster(folder, tmp_path_factory.getbasetemp())
    yield begun
    begun.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run in processes, on data in a file."""
    folder = tmp_path_factory.mktemp("whole")
    digits = nj.data.load_dataset("digits")
    arrays = {
        name: np.concatenate([getattr(part, kind) for part in parts])
        for name, kind, parts in (
            ("x_train", "images", [digits.train]),
            ("y_train", "labels", [digits.train]),
            ("x_test", "images", [digits.test]),
            ("y_test", "labels", [digits.test]),
        )
    }
    np.savez(folder / "digits.npz", **arrays)
    config = TINY.replace(dataset=f"npz:{folder / 'digits.npz'}", epochs_neighbours=2)
    run(config, folder / "run", Silent(), workers=2)
    return folder / "run", config


def content(workdir):
    """All but seconds and places."""
    return {
        **{path.name: path.read_bytes() for path in (workdir / "networks").iterdir()},
        "ledger": history(runs.read_ledger(workdir)),
        "test": json.loads((workdir / "result.json").read_text())["test_accuracy"],
        "trainings": list((workdir / "trainings").iterdir()),
    }


class Killing(Silent):
    """Kills processes after epochs: by a trial's name, a word of their command, and how often."""

    def __init__(self, cluster, **kills):
        super().__init__()
        self.cluster, self.kills = cluster, kills

    def epoch(self, name, epoch, loss, learning_rate):
        super().epoch(name, epoch, loss, learning_rate)
        word, times = self.kills.get(name.replace("-", "_"), (b"", 0))
        if times:
            self.kills[name.replace("-", "_")] = word, times - 1
            for pid in processes(self.cluster.folder, word):
                os.kill(pid, signal.SIGKILL)


def on_ray(config, workdir, reporter, cluster, **options):
    with runs.open_run(config, workdir, checkpoint_seconds=0, **options) as opened:
        return runs.execute(opened, reporter, 0, executor="ray", address=cluster.address)


@needs_ray
@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes_as_processes_also_when_a_worker_and_a_node_are_killed(
    cluster, finished, tmp_path
):
    workdir, config = finished
    reporter = Killing(
        cluster,
        step1_child1=(b"ray::Worker", 1),
        step2_child1=(b"--node-name=beta", 1),
    )
    on_ray(config, tmp_path, reporter, cluster)
    assert content(tmp_path) == content(workdir)
    assert max(reporter.loads)[:2] == (2, 2)  # nodes and workers
    died = [note for note in reporter.notes if "died; another tries again" in note]
    assert "the worker of step1-child1 died; another tries again" in died
    lines = {line["name"]: line for line in runs.read_ledger(tmp_path)}
    places = {line["place"][:-7] for name, line in lines.items() if "child" in name}
    assert places <= {"alpha", "beta"}
    assert "place" not in lines["final"]
    assert lines["step1-child1"]["place"] in str(runs.read_run(tmp_path).trials)


@needs_ray
def test_a_node_with_other_versions_is_refused(cluster, monkeypatch):
    here = about_this()
    other = {**here, "versions": {**here["versions"], "jax": "0.0.1"}}
    monkeypatch.setattr(ray_module, "about_this", lambda: other)
    version = here["versions"]["jax"]
    with pytest.raises(ValueError, match=f"node alpha-.* has jax {version} instead of 0.0.1"):
        nj.run_search(TINY, executor="ray", address=cluster.address)


@needs_ray
def test_a_cluster_without_room_for_a_child_says_what_is_asked_and_what_is_there(cluster):
    config = TINY.replace(threads_per_child=3)
    with pytest.raises(ValueError, match="needs a node with CPU: 3; got a cluster with nodes of C"):
        nj.run_search(config, executor="ray", address=cluster.address)


def refused(**options):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        nj.run_search(TINY, **options)
    return str(error.value)


def test_where_ray_is_not_installed_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert refused(executor="ray").endswith("; install it: pip install 'nash_jax[ray]'")


@needs_ray
def test_an_address_nobody_answers_at_is_refused_soon():
    nobody = f"127.0.0.1:{free_port()}"
    assert f"no Ray answers at {nobody} (Connection refused)" in refused(
        executor="ray", address=nobody
    )
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        other = f"ray://127.0.0.1:{server.getsockname()[1]}"
        assert "(what answers is no Ray)" in refused(executor="ray", address=other)
    assert "must be auto, local, HOST:PORT or ray://" in refused(executor="ray", address="head")


@needs_ray
def test_paths_of_sockets_that_are_too_long_are_refused(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    assert "set RAY_TMPDIR to a shorter folder" in refused(executor="ray", address="local")


def test_an_executor_that_cannot_be_here_is_refused(monkeypatch):
    assert "executor must be one of auto, serial, processes" in refused(executor="threads")
    assert "executor devices is for accelerators; got a CPU" in refused(executor="devices")
    assert "is that of a cluster of Ray's; got local" in refused(address="local")
    monkeypatch.setenv("NPROC", "7")
    assert "got NPROC=7, XLA_FLAGS=" in refused(executor="serial")


def test_a_process_computes_as_a_worker_that_has_as_many_threads(monkeypatch):
    place = Place("auto", jax.local_devices())
    monkeypatch.setenv("XLA_FLAGS", training.faster_flags(""))
    monkeypatch.setenv("NPROC", "3")
    assert [place.is_like_a_worker(threads) for threads in (2, 3)] == [False, True]
    monkeypatch.delenv("NPROC")
    cores = machine.num_schedulable()
    assert [place.is_like_a_worker(cores + more) for more in (0, 1)] == [True, False]
    monkeypatch.setenv("XLA_FLAGS", "")
    assert not place.is_like_a_worker(cores)


def test_a_worker_takes_of_a_node_what_its_device_needs():
    cpu = jax.local_devices()[0]
    assert Place("ray", [cpu]).size(TINY.replace(threads_per_child=2)) == Size(2)
    assert Size(2).times_in({"CPU": 7.0, "memory": 1.0}) == 3
    assert Size(1, 0.5).times_in({"CPU": 8.0, "GPU": 2.0}) == 4
    assert Size(1, 1.0).times_in({"CPU": 8.0}) == 0
