"""Data sets that cannot be trained on."""

from __future__ import annotations

from tests.bad_inputs.case import (
    FOLDER,
    MNIST,
    SHORT,
    TABLE,
    TRAIN,
    Case,
    mine,
    split_folders,
    table_with,
)

DATA = {
    "unknown class": Case(
        f"{TRAIN} --data BiasedMINST",
        "data: there is no class 'BiasedMINST'; the nearest are BiasedMNIST",
    ),
    "unknown option": Case(
        f"{MNIST} --data.rhoo 1", "BiasedMNIST has no option 'rhoo'; the nearest are rho"
    ),
    "needs a root": Case(
        f"train --data BiasedMNIST {SHORT}", "BiasedMNIST needs root; give it with --data.root"
    ),
    "rho above 1": Case(f"{MNIST} --data.rho 1.5", r"rho=1.5 must be in \[0, 1\]"),
    "rho below 0": Case(f"{MNIST} --data.rho -0.1", r"rho=-0.1 must be in \[0, 1\]"),
    "n_train": Case(f"{MNIST} --data.n_train 31", "n_train=31 must be from 1 to 30"),
    "unknown variant": Case(
        f"{FOLDER} --data.damaged ignore", "damaged is 'ignore', expected 'refuse' or 'skip'"
    ),
    "size 0": Case(f"{FOLDER} --data.size 0", "size is 0, expected a number above 0"),
    "too large for memory": Case(
        f"{FOLDER} --data.size 100000", "420.0 GB of memory, but .* choose a smaller --data.size"
    ),
    "share": Case(
        f"{FOLDER} --data.validation 1.5", "validation=1.5 is no share to hold out, expected"
    ),
    "no test images": Case(f"{FOLDER} --data.test 0", "test=0.0 is no share to hold out, expected"),
    "nothing to train on": Case(
        f"{FOLDER} --data.test .5 --data.validation .5", "leave nothing to train on; choose"
    ),
    "one class folder": Case(
        FOLDER, "holds one class only, 'cat'; expected at least two", {"photos/dog": None}
    ),
    "class without images": Case(
        FOLDER, "'photos/cow' holds no images; add some", {"photos/cow/notes.txt": "x"}
    ),
    "class with two images": Case(
        FOLDER,
        "'dog' has 2 images, too few to hold out",
        {f"photos/dog/{n}.png": None for n in range(8)},
    ),
    "test folders unlike training": Case(
        f"{FOLDER} --data.root split", "same class folders, .* cow, dog; rename", split_folders()
    ),
    "split without a class": Case(
        TABLE,
        "has no test image of class 'dog'; every split",
        table_with("dog/8.png,dog,a,test\ndog/9.png,dog,b,test\n", ""),
    ),
    "no training images": Case(
        TABLE,
        "0 classes among its training images .*; expected at",
        {"photos/t.csv": "path,target,split\ncat/1.png,cat,test\n"},
    ),
    "own: empty class": Case(f"{TRAIN} --data.empty true", "class 'ring' .*has no images: add"),
    "own: label too large": Case(
        f"{TRAIN} --data.label 3", "label 3, but there are 3 classes: name"
    ),
    "own: skipped label": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong 'skipped label'",
        "'cross' .*has no images: add some, or leave",
    ),
    "own: negative label": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong 'negative label'",
        "label -1, but labels count from 0: renumber",
    ),
    "own: bias of another length": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong bias", r"bias must be \[240\] int64, not \[3\]"
    ),
    "own: floats": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong float",
        r"must be \[N, C, H, W\] uint8, not .*float32",
    ),
    "own: nothing": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong none",
        "train split is NoneType, expected Images; return",
    ),
    "own: one class": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong 'one class'",
        r"has 1 class \(bar\), expected at least two; add",
    ),
    "own: other test classes": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong 'other classes'",
        "test split has the classes a, b, c, expected .* bar, cross, ring",
    ),
    "own: gray": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong gray",
        "does not take the train images of 1x12x12.*; choose another",
    ),
    "own: larger test images": Case(
        f"{TRAIN} --data {mine('Odd')} --data.wrong 'large test' --model {mine('Skips')}",
        "Skips does not take the test images of 3x24x24 .*; choose another",
    ),
    "own: mixed sizes": Case(
        f"{TRAIN} --data FromDataset --data.dataset {mine('mixed_sizes')}",
        "item 1: has 5 x 4 pixels where the first has 4 x 4; give a size to scale all to",
    ),
    "own: items without targets": Case(
        f"{TRAIN} --data FromDataset --data.dataset {mine('wrong_items')}",
        r"expected \(image, target\)",
    ),
    "own: no such data set": Case(
        f"{TRAIN} --data FromDataset --data.dataset nowhere.images",
        "there is no 'nowhere.images' to import .*; give an import path",
    ),
    **{
        f"no bias labels for {method}": Case(
            FOLDER.replace("plain", method), "reads bias labels, but the .* has none; "
        )
        for method in ("group-dro", "end", "irene", "dfr", "resample-oracle")
    },
}
