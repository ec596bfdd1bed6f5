"""Files that are missing, damaged or of another kind."""

from __future__ import annotations

import pickle

import torch
from torch import nn

from tests.bad_inputs.case import (
    FOLDER,
    IMPORTED,
    MNIST,
    RAW,
    TABLE,
    Case,
    Runs,
    calls,
    cut,
    saved,
    scores,
    table,
    table_with,
)
from tests.bad_inputs.world import idx

WEIGHTS = f"{IMPORTED} --model.weights"
PSEUDO = calls("PseudoLabels", file="s.csv")


FILES = {
    "no root": Case(f"{MNIST} --data.root nowhere", "root 'nowhere' is not a folder: give the fol"),
    "missing IDX file": Case(
        MNIST, "has no t10k-labels of MNIST", {f"{RAW}/t10k-labels-idx1-ubyte": None}
    ),
    "truncated IDX file": Case(
        MNIST,
        r"holds 22520 bytes .* says 30 x 28 x 28: fetch it again",
        {f"{RAW}/train-images-idx3-ubyte": cut},
    ),
    "text as IDX file": Case(
        MNIST,
        "is not an IDX file of 3-axis uint8 data: fetch",
        {f"{RAW}/train-images-idx3-ubyte": "hello"},
    ),
    "damaged gzip file": Case(
        MNIST,
        r"\.gz' is not a whole gzip file .*: fetch it again",
        {
            f"{RAW}/train-images-idx3-ubyte": None,
            f"{RAW}/train-images-idx3-ubyte.gz": b"\x1f\x8bxx",
        },
    ),
    "label too large": Case(
        MNIST,
        "one label below 10 for each of the 30",
        {f"{RAW}/train-labels-idx1-ubyte": idx(torch.full((30,), 12))},
    ),
    "fewer labels than images": Case(
        MNIST,
        "n_train=30 must be from 1 to 29",
        {f"{RAW}/train-labels-idx1-ubyte": idx(torch.zeros(29))},
    ),
    "class folder: no root": Case(
        f"{FOLDER} --data.root nowhere", "root 'nowhere' is not a folder: give"
    ),
    "class folder: a file": Case(
        f"{FOLDER} --data.root done/config.yaml", "config.yaml' is not a folder: give"
    ),
    "class folder: empty": Case(
        FOLDER,
        "'photos' holds no images in class folders; exp",
        {"photos/cat": None, "photos/dog": None},
    ),
    "class folder: damaged images": Case(
        FOLDER,
        r"(?s)3 of 20 images cannot be read:.*dog/3.png: is empty.*Repair or remove",
        {
            "photos/cat/1.png": "no",
            "photos/dog/2.png": lambda path: path.write_bytes(path.read_bytes()[:40]),
            "photos/dog/3.png": "",
        },
    ),
    "class folder: a whole class damaged": Case(
        f"{FOLDER} --data.damaged skip",
        "no image is left of 'cat'; repair them",
        {f"photos/cat/{number}.png": "no" for number in range(10)},
    ),
    "class folder: loose images": Case(
        FOLDER, "holds 1 images beside the class folders.*; move each", {"photos/a.png": "x"}
    ),
    "table: none": Case(TABLE, "There is no file 'photos/t.csv'; expected:"),
    "table: empty": Case(
        TABLE, "has no column path .*its first line must name", {"photos/t.csv": ""}
    ),
    "table: header only": Case(
        TABLE, "lists no images; expected a line an image", {"photos/t.csv": "path,target\n"}
    ),
    "table: no target": Case(
        TABLE, r"no column target \(it has path, label", table_with("target", "label")
    ),
    "table: a column twice": Case(
        TABLE, "has 2 columns path; keep one", table_with("bias", "path")
    ),
    "table: too few cells": Case(
        TABLE, "line 22 has 2 cells, expected 4", table("cat/1.png,cat\n")
    ),
    "table: empty cell": Case(
        TABLE, "line 5: target is empty; fill it in", table_with("cat/3.png,cat", "cat/3.png,")
    ),
    "table: image twice": Case(
        TABLE, "line 22: cat/1.png is already in line 3; remove", table("cat/1.png,cat,a,train\n")
    ),
    "table: open quote": Case(
        TABLE, "line 22: .*; repair its quotes", table('"cat/1.png,cat,a,train\n')
    ),
    "table: unknown split": Case(
        TABLE,
        "line 2: split is 'learn', expected train, val",
        table_with("cat/0.png,cat,a,train", "cat/0.png,cat,a,learn"),
    ),
    "table: missing image": Case(
        TABLE,
        r"(?s)cat/77.png: there is no such file.*Repair or rem",
        table_with("cat/1.png", "cat/77.png"),
    ),
    "table: new class in test": Case(
        TABLE,
        "line 11: target 'cow' is that of no training im",
        table_with("9.png,cat", "9.png,cow"),
    ),
    "table: one class": Case(
        TABLE, r"has 1 classes .*\(cat\); expected at least two", table_with("dog,", "cat,")
    ),
    "table: no text": Case(
        TABLE, "is not UTF-8 text .*; save it as UTF-8", {"photos/t.csv": b"\xff\xfe\x00p"}
    ),
    "table: two to choose from": Case(
        "train --data CSVData --data.root photos --run out",
        r"2 CSV files \(a.csv, b.csv\); choose",
        {"photos/a.csv": "x", "photos/b.csv": "x"},
    ),
    "scores: none": Case(PSEUDO, "no file of scores s.csv; expected a CSV file with"),
    "scores: empty": Case(PSEUDO, "s.csv has no rows, expected a CSV", {"s.csv": ""}),
    "scores: no column": Case(
        PSEUDO, "s.csv cannot be read as scores, .*score", scores("score", "scor")
    ),
    "scores: a word": Case(
        PSEUDO, "s.csv cannot be read as scores, .*'high'", scores(",.5", ",high")
    ),
    "scores: out of range": Case(PSEUDO, r"score outside \[0, 1\]", scores(",.5", ",1.5")),
    "scores: cut": Case(
        PSEUDO, "s.csv cannot be read as scores, expected", scores("239,2,.5,0\n", "239,2")
    ),
    "scores: of other data": Case(
        PSEUDO, "has 80 rows, but there are 240 training samples; give", scores(rows=80)
    ),
    "weights: none": Case(f"{WEIGHTS} w.pt", "no file of weights w.pt; check the path"),
    "weights: a folder": Case(f"{WEIGHTS} photos", "no file of weights photos; check the path"),
    "weights: text": Case(
        f"{WEIGHTS} w.pt", "w.pt is damaged or no file of weights; get it", {"w.pt": "hi there"}
    ),
    "weights: a pickled module": Case(
        f"{WEIGHTS} w.pt",
        "w.pt is damaged or holds pickled objects",
        {"w.pt": saved(nn.Linear(2, 2))},
    ),
    "weights: a pickle": Case(
        f"{WEIGHTS} w.pt",
        "w.pt is damaged or holds pickled objects",
        {"w.pt": pickle.dumps(Runs())},
    ),
    "weights: a list": Case(
        f"{WEIGHTS} w.pt", "w.pt holds list with more than tensors", {"w.pt": saved([1])}
    ),
    "weights: truncated": Case(
        f"{WEIGHTS} done/model.safetensors",
        "is damaged or no file of weights",
        {"done/model.safetensors": cut},
    ),
    "weights: another network": Case(
        f"{WEIGHTS} w.pt",
        "the file lacks 'stage1.0.weight'.*; give",
        {"w.pt": saved({"head.bias": torch.zeros(3)})},
    ),
    "weights: another shape": Case(
        f"{WEIGHTS} done/model.safetensors --model.arguments '{{widths: [4, 4, 4]}}'",
        r"of shape \[.*\], expected \[.*; give weights of the same network",
    ),
}
