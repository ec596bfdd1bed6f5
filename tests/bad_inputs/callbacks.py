"""Callbacks and networks, shipped ones and a user's own."""

from __future__ import annotations

from typing import Any

from tests.bad_inputs.case import IMPORTED, TRAIN, Case, calls, mine, scores

CELLS = "online_debias.views.CellView"


def tested(**arguments: float) -> dict[str, Any]:
    """A view of cells with such a test."""
    test = {"class_path": "online_debias.views.ShortcutTest", "init_args": arguments}
    return {"class_path": CELLS, "init_args": {"test": test}}


# Callback, arguments, what is said of them.
ARGUMENTS: list[tuple[str, dict[str, Any], str]] = [
    ("ShortcutScore", {"views": []}, "views has no CellView, expected one"),
    ("ShortcutScore", {"views": [CELLS, CELLS]}, "views has 2 of CellView, expected at most one"),
    ("ShortcutScore", {"views": [tested(threshold=2)]}, "threshold is 2.0, expected a number betw"),
    ("ShortcutScore", {"views": [tested(least=0)]}, "least is 0, expected at least 1"),
    ("Augment", {"probability": 0}, "probability is 0.0, expected 0 < probability <= 1"),
    ("BiasAmplifier", {"weights": "no.safetensors"}, "no file no.safetensors; give the"),
    (
        "BiasAmplifier",
        {"weights": "photos/cat/1.png"},
        "is damaged or not of a SmallConvNet with 3",
    ),
    ("BiasProbe", {"hidden": -1}, "hidden is -1, expected a whole number >= 0"),
    ("BiasProbe", {"q": 0}, "q is 0.0, expected 0 < q <= 1"),
    ("ClusterWeights", {"variant": "mine"}, "variant is 'mine', expected 'paper' or 'code'"),
    ("ClusterWeights", {"beta": 0}, "beta is 0.0, expected a number above 0"),
    ("Confusion", {"weight": -1}, "Confusion: weight is -1.0, expected a finite number above 0"),
    ("Copies", {"copies": 0}, "copies is 0, expected a whole number >= 1"),
    ("Copies", {"capacity": 9}, "capacity is 9.0, expected 0 < capacity <="),
    ("CrossBiasMix", {"concentration": 0}, "concentration is 0, expected a whole number >= 1"),
    ("EnD", {"alpha": 0, "beta": 0}, "alpha is 0.0 and beta 0.0, expected numbers >= 0, not both"),
    ("GradientReversal", {"entropy": -1}, "entropy is -1.0, expected a finite number >= 0"),
    ("GroupWeights", {"step_size": 0}, "step_size is 0.0, expected a finite number above 0"),
    ("GroupWeights", {"limit": 1}, "limit is 1.0, expected a number above 1"),
    ("HEX", {"levels": 1}, "levels is 1, expected at least 2"),
    ("Independence", {"sigma": 0}, "sigma is 0.0, expected a number above 0"),
    ("Information", {"weight": 0}, "Information: weight is 0.0, expected a finite number above 0"),
    ("LearnedMixin", {"entropy": -1}, "entropy is -1.0, expected a number >= 0"),
    ("LogitCorrection", {"tau": 0}, "tau is 0.0, expected a number above 0"),
    ("LossScore", {"momentum": 1}, "momentum is 1.0, expected 0 <= momentum < 1"),
    ("NoiseScore", {"warmup": 0}, "warmup is 0, expected at least 1 epoch"),
    ("OfflineClusters", {"n_clusters": 0}, "n_clusters is 0, expected at least 1"),
    ("OfflineClusters", {"features": "no.npy"}, "features is 'no.npy', expected"),
    ("OfflineScore", {"every": 0}, "every is 0, expected at least 1 epoch"),
    (
        "OfflineScore",
        {"detector": "sklearn.Nothing"},
        "detector is 'sklearn.Nothing', expected the i",
    ),
    (
        "OfflineScore",
        {"detector": "collections.deque"},
        "'collections.deque'.*, expected an anomaly",
    ),
    ("OfflineScore", {"arguments": {"nu": 7}}, "does not take the arguments {'nu': 7}"),
    ("OnlineClusters", {"momentum": 1}, "momentum is 1.0, expected 0 <= momentum < 1"),
    ("OracleGroups", {"label_signal": None, "signal": None}, "are None, expected a name for at l"),
    (
        "PseudoLabels",
        {"file": "s.csv", "threshold": 1},
        "threshold is 1.0, expected 0 <= threshold",
    ),
    ("RelativeDifficulty", {"q": 2}, "q is 2.0, expected 0 < q <= 1"),
    ("Resample", {"share": 1.5}, "share is 1.5, expected a number between 0 and 1"),
    ("Resample", {"warmup": 0}, "warmup is 0, expected at least 1 epoch"),
    ("Reweight", {"limit": 1}, "limit is 1.0, expected a number above 1"),
    ("RiverScore", {"lag": -1}, "lag is -1, expected a number of steps >= 0"),
    ("SpectralDecoupling", {"weight": 0}, "weight is 0.0, expected a finite number above 0"),
]


TREES = "online_debias.detectors.HalfSpaceTrees"
BLIND = {"class_path": "MassTrees", "init_args": {"classes": False}}
NO_TREES = {"class_path": TREES, "init_args": {"n_trees": 0}}

CALLBACKS = {
    "no provider": Case(
        calls("Resample"), "'resample' requires the signal 'conflict', .*; add ShortcutScore"
    ),
    "two of one name": Case(
        calls("Augment", "Augment"), "Two callbacks are called 'augment'; give"
    ),
    "two providers": Case(
        calls("LossScore", "ConflictScore"), "both provide the signal 'conflict'; give one"
    ),
    "a cycle": Case(
        calls(mine("Pings"), mine("Pongs")), "'pings', 'pongs' require .* in a cycle; take one"
    ),
    "detector without classes": Case(
        calls("ConflictScore", detector=BLIND), "ignores classes, .*give it classes=True"
    ),
    "detector of another type": Case(
        calls("ConflictScore", detector=3), "callbacks.detector is '3', expected Detector"
    ),
    "detector that is none": Case(
        calls("ConflictScore", detector={"class_path": "online_debias.data.BiasedDigits"}),
        "'online_debias.data.BiasedDigits' is no Detector, expected a class such as",
    ),
    "unknown detector": Case(
        calls("ConflictScore", detector={"class_path": "online_debias.detectors.HalfSpaceTre"}),
        "callbacks.detector: .* has no class 'HalfSpaceTre'; the nearest are HalfSpaceTrees",
    ),
    "unknown detector by name": Case(
        calls("ConflictScore", detector="HalfSpaceTre"),
        "callbacks.detector: there is no class 'HalfSpaceTre'; the nearest are HalfSpaceTrees",
    ),
    "number of trees that is a word": Case(
        calls("ConflictScore", detector={"class_path": TREES, "init_args": {"n_trees": "few"}}),
        "callbacks.detector.n_trees is 'few', expected int",
    ),
    "unknown option of a detector": Case(
        calls("ConflictScore", detector={"class_path": TREES, "init_args": {"tree": 3}}),
        "callbacks.detector: HalfSpaceTrees has no option 'tree'; the nearest are n_trees",
    ),
    "detector without trees": Case(
        calls("ConflictScore", detector=NO_TREES), "n_trees is 0, but must be"
    ),
    "no callback at all": Case(
        calls("online_debias.data.BiasedDigits"), "is no Callback, expected a class such as Augment"
    ),
    "publishes too few rows": Case(
        calls(mine("Publishes")),
        r"'publishes' failed in on_features .*\(3,\), expected one value .*40 rows .*own.py, line",
    ),
    "publishes a column": Case(
        calls(mine("Publishes"), column=True), r"\(40, 1\), expected \(40,\); take .*squeeze"
    ),
    "weighs by a column": Case(
        calls(mine("Contributes")),
        r"weight factor 'contributes' has shape \(40, 1\), expected \(40,\)",
    ),
    "adds no scalar": Case(
        calls(mine("Contributes"), weighs=False), "expected a scalar; reduce it"
    ),
    "raises in a hook": Case(
        calls(mine("Fails")),
        r"'fails' failed in on_loss at step 0: ZeroDivisionError: .*own.py, line \d+\); mend it",
    ),
    "raises when it is set up": Case(
        calls(mine("Fails"), hook="setup"), "'fails' failed in setup .*KeyError: 'mask'.*; mend it"
    ),
    "model returns a tuple": Case(
        f"{TRAIN} --model {mine('Returns')}", "returned tuple, expected a tensor of logits; wrap"
    ),
    "model returns a dict": Case(
        f"{TRAIN} --model {mine('Returns')} --model.kind dict",
        "returned dict, expected a tensor of logits; wrap",
    ),
    "model has too many outputs": Case(
        f"{TRAIN} --model {mine('Returns')} --model.kind wide",
        r"logits of shape \(2, 4\), expected \(2, 3\).*; give",
    ),
    "model returns no row a class": Case(
        f"{TRAIN} --model {mine('Returns')} --model.kind flat",
        r"logits of shape \(2,\), expected \(2, 3\)",
    ),
    "model has no parameters": Case(
        f"{TRAIN} --model {mine('Fixed')}", "Fixed has no parameters to train"
    ),
    "model for larger images": Case(
        f"{TRAIN} --model {mine('Large')}",
        "Large does not take the train images of 3x12x12 .*; choose another",
    ),
    "model that cannot be made": Case(
        f"{TRAIN} --model {mine('CannotBeMade')}",
        "for 3 classes, KeyError: 'no such layer' .*own.py, line",
    ),
    "model without n_classes": Case(
        f"{TRAIN} --model {mine('NoArgument')}",
        "for 3 classes, TypeError: .*; choose a class or function of n_classes",
    ),
    "model that is no module": Case(
        f"{TRAIN} --model {mine('NoModule')}", "NoModule' is no class of models, .*Imported"
    ),
    "function that takes a name": Case(
        f"{TRAIN} --model {mine('by_name')}",
        "by_name takes 'model_name' first, expected the number of classes; .*Imported",
    ),
    "function that takes keywords": Case(
        f"{TRAIN} --model {mine('by_keyword')}", "by_keyword does not take n_classes .*; .*Imported"
    ),
    "function that raises": Case(
        f"{TRAIN} --model {mine('raises')}", "LookupError: no network in the cupboard .*; choose"
    ),
    "function that says nothing": Case(
        f"{TRAIN} --model {mine('unannotated')}",
        "unannotated' is no class of models, and no function that says",
    ),
    "unknown model": Case(
        f"{TRAIN} --model SmalConvNet", "no class 'SmalConvNet'; the nearest are SmallConvNet"
    ),
    "unknown model of torchvision": Case(
        f"{TRAIN} --model resnet81", "no model 'resnet81'; the nearest are resnet18"
    ),
    "imported from nowhere": Case(
        f"{TRAIN} --model Imported --model.path nowhere.Net",
        "no class or function 'nowhere.Net' .*; give",
    ),
    "imported with a wrong argument": Case(
        f"{IMPORTED} --model.arguments '{{widht: 3}}'", "does not take the arguments {'widht': 3}"
    ),
    "imported with a wrong head": Case(
        f"{IMPORTED} --model.head hed", "head 'hed' .* is missing, expected the path of"
    ),
    "imported that returns a tuple": Case(
        f"{TRAIN} --model Imported --model.path {mine('Returns')}",
        "Returns returned tuple, expected a tensor",
    ),
    **{
        f"{name} {arguments}": Case(
            calls(name, **arguments), says, scores() if name == "PseudoLabels" else {}
        )
        for name, arguments, says in ARGUMENTS
    },
}
