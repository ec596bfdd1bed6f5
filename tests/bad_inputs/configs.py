"""Settings, in YAML and on the command line."""

from __future__ import annotations

from tests.bad_inputs.case import TRAIN, Case, calls, mine, yaml_file

GIVEN = f"{TRAIN} --config c.yaml"


CONFIGS = {
    "no file": Case(
        f"{TRAIN} --config nowhere.yaml", "no settings file nowhere.yaml; check --config"
    ),
    "a folder": Case(f"{TRAIN} --config photos", "no settings file photos; check --config"),
    "no YAML": Case(GIVEN, "c.yaml is not YAML: .*line 1.*; mend it", yaml_file("a: [")),
    "no text": Case(GIVEN, "c.yaml is not YAML: .*utf-8.*; mend it", yaml_file(b"\x00\xff\xfe")),
    "a list": Case(GIVEN, "c.yaml holds list, expected `key: value` lines", yaml_file("- 1")),
    "a word": Case(GIVEN, "c.yaml holds str, expected `key: value` lines", yaml_file("hello")),
    "empty": Case(GIVEN, "c.yaml holds NoneType, expected `key: value`", yaml_file("")),
    "runs code": Case(
        GIVEN,
        "c.yaml is not YAML: .*os.mkdir",
        yaml_file("a: !!python/object/apply:os.mkdir [ran]"),
    ),
    "a key twice": Case(
        GIVEN, "line 1 has 'epochs' twice, keep one", yaml_file("epochs: 2\nepochs: 3")
    ),
    "an inner key twice": Case(
        GIVEN,
        "'share' twice, keep one",
        yaml_file("callbacks: [{class_path: Resample, init_args: {share: .5, share: .6}}]"),
    ),
    "unknown key": Case(GIVEN, "no setting 'epoch'; the nearest are epochs", yaml_file("epoch: 3")),
    "null": Case(GIVEN, "lr is null, expected a value; leave the line out", yaml_file("lr: null")),
    "no data": Case(GIVEN, "needs data; give it with --data", yaml_file("data: null")),
    "data of another type": Case(
        GIVEN, "data has 3, expected the name of a class", yaml_file("data: 3")
    ),
    "callbacks as a word": Case(
        GIVEN, "callbacks is 'EnD', expected list", yaml_file("callbacks: EnD")
    ),
    "a callback without class": Case(
        GIVEN,
        "callbacks has {'init_args': {}}, expected the name of a c",
        yaml_file("callbacks: [{init_args: {}}]"),
    ),
    "unknown callback": Case(
        GIVEN,
        "callbacks: there is no class 'Resampel'; the nearest are Resample",
        yaml_file("callbacks: [{class_path: Resampel}]"),
    ),
    "unknown callback by path": Case(
        GIVEN,
        "has no class 'Resampel'; the nearest are Resample",
        yaml_file("callbacks: [{class_path: online_debias.callbacks.Resampel}]"),
    ),
    "unknown module": Case(
        GIVEN,
        "no module 'mien'; check the import path",
        yaml_file("callbacks: [{class_path: mien.Own}]"),
    ),
    "unknown option": Case(
        GIVEN,
        "EnD has no option 'alfa'; the nearest are alpha",
        yaml_file("callbacks: [{class_path: EnD, init_args: {alfa: 1}}]"),
    ),
    "option of another type": Case(
        GIVEN,
        "callbacks.share is 'much', expected float",
        yaml_file("callbacks: [{class_path: Resample, init_args: {share: much}}]"),
    ),
    "options that are a number": Case(
        GIVEN,
        "callbacks: Resample has init_args of type int, expected `name: value`",
        yaml_file("callbacks: [{class_path: Resample, init_args: 3}]"),
    ),
    "option of neither type": Case(
        GIVEN,
        "callbacks.weights is '3', expected str or Path",
        yaml_file("callbacks: [{class_path: BiasAmplifier, init_args: {weights: 3}}]"),
    ),
    "pipeline that is none": Case(
        GIVEN,
        "'online_debias.data.BiasedDigits' is no Pipeline, expected a class such as",
        yaml_file("pipeline: online_debias.data.BiasedDigits"),
    ),
    "taps as a list": Case(GIVEN, "taps is .*, expected dict", yaml_file("taps: [stage1]")),
    "tap as a number": Case(
        GIVEN, "taps has 3, expected a module path", yaml_file("taps: {shallow: 3}")
    ),
    "unknown option of a tap": Case(
        GIVEN,
        "taps has .*'pol': 2.*, expected .* pool",
        yaml_file("taps: {shallow: {path: stage1, pol: 2}}"),
    ),
    "tap that reads nothing": Case(
        GIVEN,
        r"taps has .*'middle'.*reads \(output or input\)",
        yaml_file("taps: {shallow: {path: stage1, reads: middle}}"),
    ),
    "tap without places": Case(
        GIVEN,
        "Tap 'stage1': pool is 0, expected at least 1",
        yaml_file("taps: {shallow: {path: stage1, pool: 0}}"),
    ),
    "tap to an unknown path": Case(
        f"{TRAIN} --taps.shallow stage9", "no module 'stage9' to tap; the nearest are st"
    ),
    "tap of an unknown name": Case(
        calls("ConflictScore", tap="waist"), "no tap called 'waist'; the taps are bottle"
    ),
    "tap that does not fire": Case(
        f"{calls('ConflictScore', tap='bottleneck')} --model {mine('Skips')}",
        "Tap 'bottleneck' did not fire in the forward pass; point it at a module",
    ),
    "clip of one": Case(GIVEN, "clip is .*, expected tuple with 2", yaml_file("clip: [1]")),
    "clip the wrong way round": Case(
        f"{TRAIN} --clip [2,1]", r"clip is \[2.0, 1.0\], expected two bounds .*lower first"
    ),
    "clip below 0": Case(
        f"{TRAIN} --clip [-1,1]", r"clip is \[-1.0, 1.0\], expected two bounds from 0"
    ),
    "unknown setting": Case(f"{TRAIN} --epoch 3", "no setting '--epoch'; the nearest are epochs"),
    "unknown method": Case(
        "train --method onlin --run out", "no method 'onlin'; the nearest are online"
    ),
    "epochs 0": Case(f"{TRAIN} --epochs 0", "epochs is 0, expected a number above 0"),
    "epochs below 0": Case(f"{TRAIN} --epochs -1", "epochs is -1, expected a number above 0"),
    "epochs a fraction": Case(f"{TRAIN} --epochs 1.5", "epochs is '1.5', expected int"),
    "no epochs": Case(f"{TRAIN} --epochs", "--epochs: expected one argument"),
    "batch size 0": Case(f"{TRAIN} --batch_size 0", "batch_size is 0, expected a number above 0"),
    "batch size below 0": Case(
        f"{TRAIN} --batch_size -3", "batch_size is -3, expected a number above 0"
    ),
    "batch size above the data": Case(
        f"{TRAIN} --batch_size 241", "241 is larger than the 240 training images; choose"
    ),
    "learning rate 0": Case(f"{TRAIN} --lr 0", "lr is 0.0, expected a number above 0"),
    "learning rate below 0": Case(f"{TRAIN} --lr -1", "lr is -1.0, expected a number above 0"),
    "learning rate infinite": Case(f"{TRAIN} --lr inf", "lr is 'inf', expected float"),
    "weight decay below 0": Case(
        f"{TRAIN} --weight_decay -1", "weight_decay is -1.0, expected a number >= 0"
    ),
    "save_every 0": Case(f"{TRAIN} --save_every 0", "save_every is 0, expected a number above 0"),
    "log_every 0": Case(f"{TRAIN} --log_every 0", "log_every is 0, expected a number above 0"),
    "patience 0": Case(f"{TRAIN} --patience 0", "patience is 0, expected a number above 0"),
    "schedule": Case(
        f"{TRAIN} --schedule step", "schedule is 'step', expected 'one-cycle' or 'constant'"
    ),
    "precision": Case(f"{TRAIN} --precision half", "precision is 'half', expected 'float32' or"),
    "combine": Case(f"{TRAIN} --combine sum", "combine is 'sum', expected 'product' or"),
    "normalize": Case(f"{TRAIN} --normalize all", "normalize is 'all', expected 'batch' or 'none'"),
    "device that is not there": Case(
        f"{TRAIN} --device cuda:99", "'cuda:99', but there is none here; choose"
    ),
    "device that is none": Case(f"{TRAIN} --device gpu", "'gpu', but there is none here; choose"),
    "seed a word": Case(f"{TRAIN} --seed x", "seed is 'x', expected int"),
    "unknown criterion": Case(
        f"{TRAIN} --criterion gce", "criterion: there is no class 'gce'; there are .*losses.gce.Gen"
    ),
    "criterion that is none": Case(
        f"{TRAIN} --criterion math.pi", r"criterion must be a function \(logits, targets\)"
    ),
    "criterion of one number": Case(
        f"{TRAIN} --criterion math.sqrt", "math.sqrt.*, expected .* a loss for each row"
    ),
    "criterion that takes the mean": Case(
        f"{TRAIN} --criterion torch.nn.CrossEntropyLoss", r"makes \(\), expected .*reduction='none'"
    ),
}
