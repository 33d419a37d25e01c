"""Sets of TensorFlow Datasets, read without TensorFlow from where they were prepared."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nash_jax.data.dataset import Dataset
from nash_jax.data.image_sets import as_dataset, read_images
from nash_jax.data.parts import part_of
from nash_jax.data.splits import HELD_OUT, held_out
from nash_jax.text import listed, one_line


def read_tfds(
    source: str,
    data_dir: pathlib.Path | None,
    label: str,
    image_size: int,
    corrupt_images: str,
    note: Callable[[str], None],
) -> Dataset:
    """A set of TensorFlow Datasets by its name.

    Reading needs files of the format array_record, and no TensorFlow. A set that is not there is
    prepared, and downloaded, if TensorFlow is installed.

    Args:
      source: `NAME[/CONFIG][:VERSION]`, or `/VERSION` as the folders are; without a version, the
        newest that is there.
      data_dir: where the sets are; by default TFDS's own place.
      label: which, if there are several; by default that of `supervised_keys`. It is a class
        label or a whole number, whose values are the classes then.
      image_size, corrupt_images, note: as in `read_images`.

    Raises:
      ValueError: if the package or the set is not there, or it is no image classification.
    """
    version = r"\d+\.\d+\.\d+"
    config = rf"(?!{version}$)[\w.\-]+"
    match = re.fullmatch(rf"([A-Za-z]\w*)(?:/({config}))?(?:[:/]({version}))?", source)
    if match is None:
        raise ValueError(
            f"dataset tfds: must be followed by NAME[/CONFIG][:VERSION]; got {source!r}"
        )
    tfds = _package(source)
    name, (set_name, config, version) = f"tfds:{source}", match.groups()
    root = pathlib.Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    folder = root / set_name / (config or "")
    _check_place(root, set_name, config, name)
    prepared = _prepared(folder, version, name) or _prepare(tfds, name, root, source, folder, note)
    try:
        builder = tfds.builder_from_directory(prepared)
        info = builder.info
        image_key, label_key = _keys(tfds, info, label, name)
        splits, parts = _parts(tfds, builder, image_key, label_key, name, note)
    except _NotUsableError as error:
        raise ValueError(str(error)) from None
    except PermissionError:
        raise
    except Exception as error:  # damaged files make TFDS and its readers raise all kinds of errors
        raise ValueError(
            f"dataset {name} cannot be read from {prepared}: {one_line(error)}; delete this "
            "folder and prepare it again"
        ) from None
    sizes = [len(files) for files, _ in parts]
    files = [file for each, _ in parts for file in each]

    def place_name(place: int) -> str:
        split = place >= sizes[0]
        return f"{splits[split]}[{place - sizes[0] if split else place}]"

    found = read_images(files, place_name, f"dataset {name}", image_size, corrupt_images, note)
    labels = np.concatenate([labels for _, labels in parts])[found.places]
    names = getattr(info.features[label_key], "names", None)
    if names is None:  # a whole number
        values, labels = np.unique(labels, return_inverse=True)
        names = [str(value) for value in values]
    if len(parts) == 1:
        note(f"dataset {name} has no test split: {HELD_OUT:.0%} of its images are the test set")
        test = held_out(labels, f"dataset {name}", names)
    else:
        test = found.places >= sizes[0]
    return as_dataset(name, found, labels, test, names)


_PARTS = ("train", "test", "validation")
_DEPTHS = ("", "*/", "*/*/")


class _NotUsableError(Exception):
    """The set is complete, but cannot be used to classify images."""


def _package(source: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ValueError(
            f"dataset tfds:{source} needs the package {error.name}; install the extra: "
            "pip install 'nash_jax[tfds]'"
        ) from None
    return tfds


def _check_place(root: pathlib.Path, set_name: str, config: str | None, name: str) -> None:
    """Raises `ValueError` if the place is inside the set, or there are several configurations."""
    inside = [each for each in (root, *root.parents[:2]) if each.name == set_name]
    prepared = [each for depth in _DEPTHS for each in root.glob(depth + "dataset_info.json")]
    if inside and prepared and not (root / set_name).is_dir():
        raise ValueError(
            f"data_dir must be the folder that holds {set_name}/; got {root}, which is inside it; "
            f"give --data_dir={inside[0].parent}"
        )
    folder = root / set_name
    if config or not folder.is_dir():
        return
    configs = sorted({path.parent.parent.name for path in folder.glob("*/*/dataset_info.json")})
    if configs and not any(folder.glob("*/dataset_info.json")):
        version = f":{rest}" if (rest := name.partition(":")[2].partition(":")[2]) else ""
        raise ValueError(
            f"dataset {name} has configurations, of which one must be given; there are "
            f"{listed(configs, most=20)}; take tfds:{set_name}/{configs[0]}{version}, say"
        )


def _prepared(folder: pathlib.Path, version: str | None, name: str) -> pathlib.Path | None:
    """The folder of a version that is prepared, or of the newest one; None if there is none."""
    if not folder.is_dir():
        return None
    versions = {
        tuple(map(int, path.name.split("."))): path
        for path in folder.iterdir()
        if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and version in (None, path.name)
    }
    whole = {
        number: path for number, path in versions.items() if (path / "dataset_info.json").is_file()
    }
    if versions and not whole:
        raise ValueError(
            f"dataset {name} is half prepared: {versions[max(versions)]} has no dataset_info.json; "
            "delete this folder and prepare it again"
        )
    return whole[max(whole)] if whole else None


def _prepare(
    tfds: Any,
    name: str,
    root: pathlib.Path,
    source: str,
    folder: pathlib.Path,
    note: Callable[[str], None],
) -> pathlib.Path:
    """Download and prepare a set by TensorFlow; without TensorFlow, an error that says how."""
    where = f"dataset {name} is not prepared in {folder}"
    entries = folder.iterdir() if folder.is_dir() else ()
    there = sorted(path.name for path in entries if not path.name.startswith("."))
    if there:
        where += f" (there are {listed(there)})"
    if importlib.util.find_spec("tensorflow") is None:
        raise ValueError(
            f"{where}; give --data_dir if it is elsewhere; to prepare it, which downloads it, pip "
            "install tensorflow and run this again, or on any machine: tfds build "
            f"{source} --file_format=array_record --data_dir={root}"
        )
    note(f"{where}; it is downloaded and prepared now")
    try:
        builder = tfds.builder(source, data_dir=root, file_format="array_record")
        builder.download_and_prepare()
        return pathlib.Path(builder.data_dir)
    except Exception as error:  # a network, a disk and another package's code may fail
        raise ValueError(f"{where}, and cannot be: {one_line(error)}") from None


def _keys(tfds: Any, info: Any, label: str, name: str) -> tuple[str, str]:
    """The names of the image and of the label among a set's features."""
    # A prepared set's features come in any order, so they are sorted.
    features = dict(sorted(info.features.items())) if hasattr(info.features, "items") else {}
    images = [key for key, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [key for key, kind in features.items() if _is_class_label(tfds, kind)]
    whole = [key for key, kind in features.items() if _is_whole_number(kind)]
    if not images or not labels + whole:
        raise _NotUsableError(
            f"dataset {name} must have an image and a class label; it has "
            f"{', '.join(features) or 'no named features'}; take another"
        )
    if label and label not in [*labels, *whole]:
        kind = f", where {label} is {type(features[label]).__name__}" if label in features else ""
        raise _NotUsableError(
            f"label must be a class label of {name}, {' or '.join(labels + whole)}; got {label!r}"
            f"{kind}; give one of these"
        )
    supervised = [key for key in info.supervised_keys or () if isinstance(key, str)]
    labels = labels or [key for key in supervised if key in whole]
    if not label and not labels:
        raise _NotUsableError(
            f"dataset {name} has no class label; give --label={' or '.join(whole)}, if the values "
            "of this whole number are classes"
        )
    chosen = label or next((key for key in supervised if key in labels), labels[0])
    if not label and chosen not in supervised and len(labels) > 1:
        raise _NotUsableError(
            f"dataset {name} has several labels, {', '.join(labels)}; give one with --label"
        )
    return next((key for key in supervised if key in images), images[0]), chosen


def _is_class_label(tfds: Any, kind: Any) -> bool:
    return isinstance(kind, tfds.features.ClassLabel)


def _is_whole_number(kind: Any) -> bool:
    """Whether a feature is a single number that may be a label."""
    dtype = getattr(kind, "np_dtype", None)
    single = getattr(kind, "shape", None) == () and not hasattr(kind, "names")
    return single and dtype is not None and np.issubdtype(dtype, np.integer)


def _parts(
    tfds: Any, builder: Any, image_key: str, label_key: str, name: str, note: Callable[[str], None]
) -> tuple[list[str], list[tuple[list[bytes], np.ndarray]]]:
    """The split to search on, and the one to test on, if there is one with labels."""
    there: dict[tuple[str, str], str] = {}
    for split in sorted(builder.info.splits, key=lambda split: split not in _PARTS):
        if meant := part_of(split):  # of several names for one part the usual one
            there.setdefault(meant, split)
    if ("train", "") not in there:
        raise _NotUsableError(
            f"dataset {name} must have a split train; it has "
            f"{', '.join(builder.info.splits) or 'none'}; take another"
        )
    splits: list[str] = []
    parts: list[tuple[list[bytes], np.ndarray]] = []
    for part in _PARTS:
        split = there.get((part, ""))
        if len(splits) == 2 or split is None:
            continue
        files, labels = _read(tfds, builder, split, image_key, label_key, name)
        named = _is_class_label(tfds, builder.info.features[label_key])
        if named and len(labels) and labels.min() < 0:
            what = f"dataset {name}: the split {split} has images without labels"
            if part == "train":
                raise _NotUsableError(f"{what}; take another set")
            note(f"{what}, and is left out")
            continue
        splits.append(split)
        parts.append((files, labels))
    return splits, parts


def _read(
    tfds: Any, builder: Any, split: str, image_key: str, label_key: str, name: str
) -> tuple[list[bytes], np.ndarray]:
    """Image files and labels of a split."""
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise _NotUsableError(
            f"dataset {name} is prepared as {builder.info.file_format.value}, which TensorFlow "
            f"alone can read; prepare it with tfds build {name.removeprefix('tfds:')} "
            "--file_format=array_record"
        )
    expected = builder.info.splits[split]
    for path in expected.filepaths:
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"{path} is missing")
    decoders = {image_key: tfds.decode.SkipDecoding()}  # that is left to `read_images`
    examples = builder.as_data_source(split=split, decoders=decoders)
    if len(examples) != expected.num_examples:
        raise ValueError(f"{split} has {len(examples)} of {expected.num_examples} examples")
    records = examples.__getitems__(list(range(len(examples))))
    files = [record[image_key] for record in records]
    labels = np.array([record[label_key] for record in records], np.int64)
    return files, labels
