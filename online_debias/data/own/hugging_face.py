"""A data set in the form of Hugging Face's `datasets`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from online_debias.data.own.from_dataset import FromDataset
from online_debias.data.own.numbering import in_order, number_bias, tidy
from online_debias.data.own.splits import NAMES
from online_debias.data.reading.decode import read


class HuggingFace(FromDataset):
    """A data set of the library `datasets`, read through `with_format("torch")`.

    Class names come from the label's `ClassLabel`, else its values are the classes. Bias values are
    numbered by `numbering.number_bias`, so that `bias == target` means bias-aligned. Splits called
    train, validation (val, valid) and test are used; those that are missing are held out of the
    training images, so as biased as these.

    Args:
        dataset: a `Dataset` or `DatasetDict`; or a folder that `save_to_disk` wrote, or a folder or
            name that `load_dataset` takes.
        image: the column of images.
        label: the column of targets.
        bias: the column of bias values, if somebody annotated one.
        size: pixels on a side: the shorter side is scaled to it, then the centre is cropped.
        validation: share of each class held out if there is no such split; 0 is none.
        test: share of each class held out if there is no such split.
        seed: decides which items are held out.

    Raises:
        ImportError: `datasets` is not installed.
        ValueError: a column or the training split is missing; items cannot be used, all named in
            one report; or an argument is out of range.

    Example:
        >>> from PIL import Image
        >>> from datasets import Dataset  # doctest: +SKIP
        >>> columns = {"image": [Image.new("L", (8, 8))] * 20, "label": ["cat", "dog"] * 10}
        >>> train = HuggingFace(Dataset.from_dict(columns), size=4).train()  # doctest: +SKIP
        >>> train.images.shape, train.classes  # doctest: +SKIP
        (torch.Size([14, 3, 4, 4]), ('cat', 'dog'))
    """

    summary: ClassVar[str] = "Your own data set in the form of Hugging Face's datasets."

    def __init__(
        self,
        dataset: Any,
        image: str = "image",
        label: str = "label",
        bias: str | None = None,
        size: int = 64,
        validation: float = 0.1,
        test: float = 0.2,
        seed: int = 0,
    ) -> None:
        found = _splits(_opened(dataset))
        wanted = [image, label] if bias is None else [image, label, bias]
        for name, split in found.items():
            for column in wanted:
                if column not in split.column_names:
                    raise ValueError(
                        f"{name} has no column {column!r} (it has "
                        f"{', '.join(split.column_names)}); name it with --data.image, "
                        "--data.label or --data.bias."
                    )
        targets = {name: _words(name, split, label) for name, split in found.items()}
        classes = getattr(found["train"].features[label], "names", None)
        classes = list(classes or in_order(targets["train"]))
        for name, words in targets.items():
            odd = set(words) - set(classes)
            if odd:
                raise ValueError(
                    f"{name} has the target {min(odd)!r}, which no training image has; expected "
                    f"one of {', '.join(classes)}."
                )
        labels = {name: [classes.index(word) for word in x] for name, x in targets.items()}
        biases: dict[str, list[int]] = {}
        if bias is not None:
            values = {name: _words(name, split, bias) for name, split in found.items()}
            biases = _numbered(values, labels, classes)
        items = {
            name: _Items(split, image, size, labels[name], biases.get(name))
            for name, split in found.items()
        }
        super().__init__(
            items["train"],
            size=size,
            validation=items.get("validation", validation),
            test=items.get("test", test),
            classes=classes,
            seed=seed,
        )


class _Items:
    """The rows of a split as (image, target) or (image, target, bias)."""

    def __init__(
        self, split: Any, image: str, size: int, targets: list[int], biases: list[int] | None
    ) -> None:
        import datasets

        split = split.select_columns([image])
        if isinstance(split.features[image], datasets.Image):
            # As they are in the file: our own decoder knows 16-bit, CMYK and transparent images.
            split = split.cast_column(image, datasets.Image(decode=False))
        self._split, self._image, self._size = split.with_format("torch"), image, size
        self._targets, self._biases = targets, biases

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        pixels = self._pixels(self._split[row][self._image])
        if self._biases is None:
            return pixels, self._targets[row]
        return pixels, self._targets[row], self._biases[row]

    def _pixels(self, found: Any) -> Tensor:
        if not isinstance(found, Mapping):
            return found  # type: ignore[no-any-return]
        if found["bytes"] is None:
            with Path(found["path"]).open("rb") as file:
                return read(file, self._size)
        return read(io.BytesIO(found["bytes"]), self._size)


def _opened(dataset: Any) -> Any:
    try:
        import datasets  # an extra, and slow to import
    except ImportError:
        raise ImportError(
            "HuggingFace needs the library datasets, which is not installed; "
            "pip install 'online-debias[hf]'."
        ) from None
    if not isinstance(dataset, str | Path):
        return dataset
    folder = Path(dataset).expanduser()
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return datasets.load_from_disk(str(folder))
    return datasets.load_dataset(str(folder) if folder.is_dir() else str(dataset))


def _splits(found: Any) -> dict[str, Any]:
    import datasets

    if isinstance(found, datasets.Dataset):
        return {"train": found}
    if not isinstance(found, datasets.DatasetDict):
        raise ValueError(
            f"dataset is {type(found).__name__}, expected a Dataset or DatasetDict of the library "
            "datasets, a folder, or a name on the hub."
        )
    splits = {NAMES[name]: split for name, split in found.items() if name in NAMES}
    if "train" not in splits:
        raise ValueError(
            f"dataset has no split train (it has {', '.join(map(str, found))}); rename one to it."
        )
    return splits


def _words(name: str, split: Any, column: str) -> list[str]:
    """The values of a column, by name if it is a ClassLabel."""
    values = list(split.with_format(None)[column])
    names = getattr(split.features[column], "names", None)
    missing = (None, -1) if names else (None, "")  # -1 stands for unlabelled
    if any(value in missing for value in values):
        n_missing = sum(value in missing for value in values)
        raise ValueError(
            f"{name} has {n_missing} rows without a value of {column!r}; fill them in, or leave "
            "these rows out."
        )
    return [names[value] if names else tidy(str(value)) for value in values]


def _numbered(
    values: dict[str, list[str]], labels: dict[str, list[int]], classes: list[str]
) -> dict[str, list[int]]:
    """Number the bias values of all splits alike, by what is usual in the training split."""
    words = [word for split in values.values() for word in split]
    targets = [label for split in labels.values() for label in split]
    order = list(values).index("train")
    start = sum(len(split) for split in list(values.values())[:order])
    train = range(start, start + len(values["train"]))
    meaning = dict(zip(words, number_bias(words, targets, classes, train), strict=True))
    return {name: [meaning[word] for word in split] for name, split in values.items()}
