"""Networks for other programs: each format, read by its own library, gives the same logits."""

import json
import os
import subprocess
import sys

import chex
import jax
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from helpers import random_images, random_variables
from zoo import ZOO

import nash_jax as nj
from nash_jax import Node, cli, ops
from nash_jax.export import export
from nash_jax.export.flax_source import flax_source
from nash_jax.record.files import write_json
from nash_jax.record.orbax_folders import load_orbax
from nash_jax.runs import Config, save_network, settings_of

BOUND = 1e-5
ACTIVATIONS = [ops.Relu, ops.LeakyRelu, ops.Elu, ops.Gelu, ops.Silu, ops.Tanh, ops.Sigmoid]


def everything():
    """A network with every op, and names that are none of Python's."""
    nodes = [
        Node("normalize", ops.Normalize((100.0, 90.0), (50.0, 60.0)), "input"),
        Node("class", ops.Conv(4, (3, 5), (1, 2), 2, (2, 1), True, "SAME"), "normalize"),
        Node("class.a", ops.BatchNorm(0.8, 1e-3), "class"),
        Node("class-a", ops.Affine(), "class.a"),
    ]
    for kind in ACTIVATIONS:
        nodes.append(Node(kind.__name__, kind(), nodes[-1].name))
    nodes += [
        Node("images", ops.MaxPool(3, 1, "SAME"), nodes[-1].name),
        Node("train", ops.AvgPool(3, 2, "SAME"), "images"),
        Node("self", ops.MaxPool(2), "images"),
        Node("x", ops.Add(), ("train", "self", "train")),
        Node("mix", ops.Mix(), ("x", "self")),
        Node("pad", ops.PadChannels(1, 2), "mix"),
        Node("drop", ops.Dropout(0.3), "pad"),
        Node("path", ops.DropPath(), "drop"),
        Node("same", ops.Identity(), "path"),
        Node("cat", ops.Concat(), ("same", "x")),
        Node("flat", ops.Flatten(0.3), "cat"),
        Node("mean", ops.GlobalAvgPool(), "cat"),
        Node("pad2", ops.PadChannels(0, 1), "mean"),
        Node("shuffled", ops.Shuffle(2), "x"),
        Node("shifted", ops.Shift(1, 0), "shuffled"),
        Node("resized", ops.Resize(7, 3), "shifted"),
        Node("zero", ops.Zero((2, 3)), "resized"),
        Node("mean2", ops.GlobalAvgPool(), "zero"),
        Node("mean3", ops.GlobalAvgPool(), "resized"),
        Node("gate", ops.Gate(), ("resized", "mean3")),
        Node("norm2", ops.Standardize(0.8, 1e-3), "gate"),
        Node("mixed", ops.WeightedSum("edge"), ("norm2", "gate", "resized")),
        Node("mean4", ops.GlobalAvgPool(), "mixed"),
        Node("both", ops.Concat(), ("flat", "pad2", "mean2", "mean4")),
        Node("dense", ops.Dense(5, use_bias=False), "both"),
    ]
    spec = nj.Architecture((6, 8, 2), nodes)
    assert {type(node.op) for node in spec.nodes} == set(ops.OPS.values())
    return spec


NETWORKS = {"everything": everything, **ZOO}


def relative(ours, theirs):
    return np.abs(np.asarray(ours) - np.asarray(theirs)).max() / np.abs(np.asarray(theirs)).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_flax_source_is_the_network(name):
    spec = NETWORKS[name]()
    variables, images = random_variables(spec), random_images(spec)
    names = {"__name__": "network"}
    exec(compile(flax_source(spec, "network.py", "weights.npz"), "network.py", "exec"), names)
    network = names["Network"]()
    fresh = jax.eval_shape(network.init, jax.random.key(0), images)
    shapes = [
        jax.tree.map(np.shape, nj.init(spec, jax.random.key(0))),
        jax.tree.map(np.shape, fresh),
    ]
    assert shapes[0]["params"] == shapes[1]["params"]
    assert shapes[0].get("batch_stats", {}) == shapes[1].get("batch_stats", {})
    assert relative(network.apply(variables, images), nj.apply(spec, variables, images)) <= BOUND
    if name not in ("everything", "small_resnet", "concats"):
        return
    key = jax.random.key(1)
    ours, updated = network.apply(
        variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )
    theirs, after = nj.apply(spec, variables, images, train=True, key=key)
    if "drop" not in spec.shapes:  # its random numbers are another's
        assert relative(ours, theirs) <= 1e-4
    for one, other in zip(
        jax.tree.leaves(updated["batch_stats"] if updated else {}),
        jax.tree.leaves(after.get("batch_stats", {})),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_stablehlo_is_the_network_for_any_batch(name):
    spec = NETWORKS[name]()
    variables, images = random_variables(spec), random_images(spec, 7)
    data = export.as_stablehlo(spec, variables)["network.stablehlo"]
    exported = jax.export.deserialize(bytearray(data))
    for batch in (1, 3, 7):
        theirs = nj.apply(spec, variables, images[:batch])
        assert relative(exported.call(images[:batch]), theirs) <= BOUND


CLASSES = ["0", "1", "11", "it's {caf\u00e9}", "10"]

#: What each format's own library makes of a folder: the logits, and the names of the classes.
READERS = {
    "weights": """
import safetensors, safetensors.numpy
weights = safetensors.numpy.load_file(folder + "/weights.safetensors")
assert json.load(open(folder + "/spec.json"))["format"] == "nash_jax.architecture"
logits = None
with safetensors.safe_open(folder + "/weights.safetensors", "numpy") as file:
    classes = json.loads(file.metadata()["classes"])
""",
    "orbax": """
import orbax.checkpoint as ocp
variables = ocp.PyTreeCheckpointer().restore(
    folder + "/variables", args=ocp.args.PyTreeRestore()
)
np.savez(result + ".npz", kernel=variables["params"]["dense"]["kernel"])
logits = None
classes = json.load(open(folder + "/data.json"))["classes"]
""",
    "flax": """
sys.path.insert(0, folder)
import network
logits = network.Network().apply(network.load(), images)
classes = network.CLASS_NAMES
""",
    "stablehlo": """
import jax.export
logits = jax.export.deserialize(open(folder + "/network.stablehlo", "rb").read()).call(images)
classes = json.load(open(folder + "/data.json"))["classes"]
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/network.onnx")
for batch in (1, 3, len(images)):
    (logits,) = session.run(None, {session.get_inputs()[0].name: images[:batch]})
    assert logits.shape[0] == batch
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
assert json.loads(session.get_modelmeta().custom_metadata_map["pixel_range"]) == [0, 4095]
""",
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    workdir, spec = tmp_path_factory.mktemp("export"), NETWORKS["everything"]()
    (workdir / "networks").mkdir()
    save_network(workdir / "networks" / "final.safetensors", spec, random_variables(spec))
    of_data = {"classes": CLASSES, "pixel_range": [0, 4095]}
    write_json(workdir / "config.json", {**settings_of(Config()).values, **of_data})
    return workdir


@pytest.mark.parametrize("format", READERS)
def test_a_fresh_process_without_us_gives_the_same_logits(format, workdir, tmp_path, capsys):
    if format == "onnx":
        pytest.importorskip("jax2onnx")
        pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    command = ["export", str(workdir), f"--format={format}", f"--out={out}"]
    if format == "onnx":  # the converter changes jax while it works
        subprocess.run([sys.executable, "-m", "nash_jax.cli", *command], check=True)
    else:
        cli.main(command)
        assert capsys.readouterr().out == f"{out}\n"
    spec, variables = nj.load(workdir)
    images = 50 * random_images(spec) + 100
    np.save(tmp_path / "images.npy", images)
    program = "import json, sys, numpy as np\nfolder, path, result = sys.argv[1:]\n"
    program += "images = np.load(path)\n" + READERS[format]
    program += "assert 'nash_jax' not in sys.modules\n"
    program += f"assert list(classes) == {CLASSES!r}, classes\n"
    program += "if logits is not None: np.save(result, logits)\n"
    files = [str(out), str(tmp_path / "images.npy"), str(tmp_path / "logits.npy")]
    subprocess.run([sys.executable, "-c", program, *files], check=True)
    known = json.loads((out / "data.json").read_text())
    assert known == {"classes": CLASSES, "pixel_range": [0, 4095]}
    if format in ("weights", "orbax"):
        assert nj.from_json((out / "spec.json").read_text()) == spec
        if format == "weights":
            weights = safetensors.numpy.load_file(out / "weights.safetensors")
            kernel = weights["params/dense/kernel"]
        else:
            kernel = np.load(tmp_path / "logits.npy.npz")["kernel"]
            there, read = load_orbax(out)
            assert there == spec
            chex.assert_trees_all_equal(read, variables)
        np.testing.assert_array_equal(kernel, variables["params"]["dense"]["kernel"])
    else:
        logits = np.load(tmp_path / "logits.npy")
        assert relative(logits, nj.apply(spec, variables, images)) <= BOUND
    if format == "flax":
        done = subprocess.run(
            [sys.executable, str(out / "network.py"), files[1]],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
        )
        classes = np.argmax(nj.apply(spec, variables, images), axis=1)
        shown = [CLASSES[c].encode("ascii", "backslashreplace").decode() for c in classes]
        assert done.stdout.splitlines() == shown


def test_nothing_is_written_over(workdir, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for out in (tmp_path, tmp_path / "mine"):
        with pytest.raises(SystemExit, match="error: out must be a new or empty folder"):
            cli.main(["export", str(workdir), "--format=weights", f"--out={out}"])
    with pytest.raises(SystemExit, match="error: there is no network 'step9-child1' in"):
        cli.main(["export", str(workdir), "--format=weights", "--candidate=step9-child1"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_images_are_classified_and_bad_ones_told_of(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        folder = tmp_path / str(channels)
        (folder / "networks").mkdir(parents=True)
        spec = nj.chain((8, 8, channels), 4, (4,))
        variables = random_variables(spec)
        save_network(folder / "networks" / "final.safetensors", spec, variables)
        grey = rng.integers(0, 256, (8, 8), np.uint8)
        PIL.Image.fromarray(grey).save(folder / "grey.png")
        PIL.Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "big.jpg")
        (folder / "bad.png").write_text("no image")
        names = ["grey.png", "bad.png", "none.png", "big.jpg"]
        with pytest.raises(SystemExit) as stop:
            cli.main(["predict", str(folder), *(str(folder / name) for name in names), "--top=2"])
        assert stop.value.code == 1
        said = capsys.readouterr()
        errors = said.err.splitlines()
        assert [line.split()[1] for line in errors] == [str(folder / name) for name in names[1:3]]
        assert "none.png is no image that can be read: No such file or directory" in errors[1]
        lines = said.out.splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            str(folder / name) for name in (names[0], names[3])
        ]
        image = np.repeat(grey[None, :, :, None], channels, axis=3)
        probabilities = np.asarray(jax.nn.softmax(nj.apply(spec, variables, image)))[0]
        best = np.argsort(-probabilities)[:2]
        assert lines[0].partition(": ")[2] == "  ".join(
            f"{c} ({probabilities[c]:.1%})" for c in best
        )
    config = settings_of(Config()).values | {"classes": list("abcd"), "pixel_range": [0, 100]}
    write_json(folder / "config.json", config)
    PIL.Image.fromarray(grey.astype(np.uint16) % 101).save(folder / "deep.png")
    cli.main(["predict", str(folder), str(folder / "deep.png"), "--top=1"])
    image = np.rint(grey % 101 * 2.55).astype(np.uint8)[None, :, :, None].repeat(3, axis=3)
    best = "abcd"[int(np.argmax(nj.apply(spec, variables, image)))]
    assert f"deep.png: {best} (" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: top must be >= 1; got 0"):
        cli.main(["predict", str(folder), "x.png", "--top=0"])
