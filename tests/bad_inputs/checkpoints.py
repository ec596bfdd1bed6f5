"""Runs that cannot go on."""

from __future__ import annotations

import pickle

from online_debias.runtime.checkpoint import FORMAT
from tests.bad_inputs.case import Case, Runs, cut, saved, settings, state

RESUME = "train --resume begun"


CHECKPOINTS = {
    "no folder": Case(
        "train --resume nowhere", "no run to resume in nowhere: it has no config.yaml"
    ),
    "a file": Case("train --resume done/config.yaml", "no run to resume in done/config.yaml"),
    "settings that are no YAML": Case(
        RESUME, "begun/config.yaml is not YAML", {"begun/config.yaml": "a: ["}
    ),
    "truncated": Case(
        RESUME, "last.pt is cut short or not a checkpoint; delete", {"begun/last.pt": cut}
    ),
    "empty": Case(
        RESUME, "last.pt is cut short or not a checkpoint; delete", {"begun/last.pt": ""}
    ),
    "text": Case(
        RESUME, "last.pt is cut short or not a checkpoint; delete", {"begun/last.pt": "hello world"}
    ),
    "a word": Case(
        RESUME, "last.pt is cut short or not a checkpoint; delete", {"begun/last.pt": "e"}
    ),
    "a raw pickle": Case(
        RESUME,
        "last.pt is cut short or not a checkpoint; delete",
        {"begun/last.pt": pickle.dumps(Runs())},
    ),
    "pickled objects": Case(
        RESUME,
        "last.pt holds pickled objects, which are not loaded",
        {"begun/last.pt": saved({"format": FORMAT, "x": Runs()})},
    ),
    "a list": Case(
        RESUME,
        f"last.pt is not a checkpoint of format {FORMAT}; use",
        {"begun/last.pt": saved([1])},
    ),
    "another format": Case(
        RESUME,
        f"last.pt is not a checkpoint of format {FORMAT}; use",
        {"begun/last.pt": state(lambda x: x.update(format=FORMAT + 1))},
    ),
    "another recipe": Case(
        RESUME,
        "written with callbacks none, this run has augment; resume",
        {"begun/config.yaml": settings(callbacks=["Augment"])},
    ),
    "another model": Case(
        RESUME,
        "of another model or recipe; resume with the settings",
        {"begun/config.yaml": settings(model="SimpleConvNet")},
    ),
    "other data": Case(
        RESUME,
        "of 240 training samples, the training set has .*; resume with the same data",
        {
            "begun/config.yaml": settings(
                data={"class_path": "ClassFolder", "init_args": {"root": "photos"}}, batch_size=4
            )
        },
    ),
    "other settings": Case(
        f"{RESUME} --epochs 3",
        "goes on with the settings in .* epochs is 1, not 3; leave --epochs out",
    ),
}
