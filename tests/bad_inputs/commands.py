"""Arguments of commands, and folders that are not what they expect."""

from __future__ import annotations

from tests.bad_inputs.case import TRAIN, Case, cut, settings, yaml_file

COMPARE = "compare --run compared --methods [plain]"


COMMANDS = {
    "nothing": Case("", "arguments are required: COMMAND", status=2),
    "unknown command": Case("trian", "invalid choice: 'trian'", status=2),
    "run folder with another run": Case(
        TRAIN.replace("out", "photos"), "photos holds another run; choose another folder"
    ),
    "run folder is a file": Case(
        TRAIN.replace("out", "done/config.yaml"), "config.yaml is a file; choose another folder"
    ),
    "run folder below a file": Case(
        TRAIN.replace("out", "done/config.yaml/x"), "config.yaml is a file; choose another folder"
    ),
    "word that is no option": Case(f"{TRAIN} extra", "no setting 'extra'"),
    "resume what": Case("train --resume", "--resume: expected one argument"),
    "demo: epochs": Case("demo --epochs x", "invalid int value: 'x'", status=2),
    "demo: folder": Case(
        "demo --run done/config.yaml/x", "config.yaml is a file; choose another folder"
    ),
    "data: no action": Case("data", "arguments are required: ACTION", status=2),
    "data: unknown set": Case(
        "data check BiasedMINST", "no data set 'BiasedMINST'; the nearest are BiasedMNIST"
    ),
    "data: no root": Case("data check BiasedMNIST", "BiasedMNIST needs --root, the folder"),
    "data: not there": Case(
        "data check BiasedMNIST --root nowhere", "root 'nowhere' is not a folder: give"
    ),
    "evaluate: what": Case("evaluate", "arguments are required: run", status=2),
    "evaluate: not there": Case("evaluate nowhere", "no finished run in nowhere"),
    "evaluate: unfinished": Case("evaluate begun", "no finished run in begun: it has no model"),
    "evaluate: foreign folder": Case("evaluate photos", "no finished run in photos"),
    "evaluate: truncated model": Case(
        "evaluate done",
        "does not fit 3 classes of Shapes or is damaged; ",
        {"done/model.safetensors": cut},
    ),
    "evaluate: no settings": Case(
        "evaluate done", "no settings file done/config.yaml; ", {"done/config.yaml": None}
    ),
    "evaluate: other data": Case(
        "evaluate done --data ClassFolder --data.root photos",
        "does not fit 2 classes of ClassFolder",
    ),
    "evaluate: unknown option": Case(
        "evaluate done --dat X", "no setting '--dat'; the nearest are data"
    ),
    **{
        f"{command}: {name}": Case(f"{command} {place}", says, files)
        for command in ("score", "report")
        for name, place, says, files in (
            ("not there", "nowhere", "no run in nowhere: .*; name the folder", {}),
            ("unfinished", "begun", "run in begun is not finished; go on with it by", {}),
            ("foreign folder", "photos", "no run in photos: .*; name the folder", {}),
            (
                "truncated model",
                "done",
                "model.safetensors is damaged or of another",
                {"done/model.safetensors": cut},
            ),
            ("truncated results", "done", "results.json is damaged", {"done/results.json": "{"}),
            (
                "results of another kind",
                "done",
                "results.json is not what a run writes",
                {"done/results.json": "[]"},
            ),
            (
                "results without numbers",
                "done",
                "results.json is not what a run writes",
                {"done/results.json": "{}"},
            ),
            (
                "settings that are no YAML",
                "done",
                "config.yaml is not YAML",
                {"done/config.yaml": "a: ["},
            ),
            (
                "data that is gone",
                "done",
                "root 'gone' is not a folder",
                {
                    "done/config.yaml": settings(
                        data={"class_path": "ClassFolder", "init_args": {"root": "gone"}}
                    )
                },
            ),
            (
                "a folder that is not there",
                "done --output nowhere/x",
                "Cannot write nowhere/x: .*; choose another folder",
                {},
            ),
        )
    },
    "score: text as checkpoint": Case(
        "score done", "last.pt is cut short or not a checkpoint", {"done/last.pt": "x"}
    ),
    "report: against nothing": Case("report done --against nowhere", "no run in nowhere"),
    "report: unknown option": Case(
        "report done --agianst x", "unrecognized arguments: --agianst", status=2
    ),
    "report: damaged metrics": Case(
        "report done",
        "metrics.csv cannot be read, expected the columns",
        {"done/metrics.csv": "nonsense\n1,2"},
    ),
    "compare: nothing": Case("compare --run compared", "needs methods; give it with --methods"),
    "compare: no methods": Case("compare --methods []", "methods is empty, expected at least one"),
    "compare: unknown method": Case(
        "compare --methods [plan]", "no method 'plan'; the nearest are plain"
    ),
    "compare: a method twice": Case(
        "compare --methods [plain,plain]", "two entries with the name 'plain'; give"
    ),
    "compare: method without method": Case("compare --methods '[{name: x}]'", "needs a 'method'"),
    "compare: methods as a word": Case(
        "compare --methods plain", "methods is 'plain', expected list"
    ),
    "compare: a seed twice": Case(f"{COMPARE} --seeds [0,0]", "seeds has 0 twice; leave one out"),
    "compare: no seeds": Case(f"{COMPARE} --seeds []", "seeds is empty, expected at least one"),
    "compare: seed a word": Case(f"{COMPARE} --seeds [a]", "seeds is 'a', expected int"),
    "compare: unknown selection": Case(
        f"{COMPARE} --selection best", "selection is 'best', expected 'last' or"
    ),
    "compare: ratio above 1": Case(f"{COMPARE} --ratios [1.5]", r"rho=1.5 must be in \[0, 1\]"),
    "compare: ratio a word": Case(f"{COMPARE} --ratios [a]", "ratios is 'a', expected float"),
    "compare: ratio of data without": Case(
        f"{COMPARE} --data [tests.own.Shapes] --ratios [.9]", "Shapes has no `rho` to set; leave"
    ),
    "compare: no processes": Case(
        f"{COMPARE} --processes 0", "processes is 0, expected at least 1"
    ),
    "compare: unknown data": Case(
        f"{COMPARE} --data [BiasedMINST]", "no class 'BiasedMINST'; the nearest are BiasedMNIST"
    ),
    "compare: data without files": Case(
        f"{COMPARE} --data [BiasedMNIST] --root nowhere", "root 'nowhere' is not a folder"
    ),
    "compare: arguments of data": Case(
        f"{COMPARE} --data '[{{class_path: BiasedDigits, init_args: [1]}}]'",
        r"init_args of BiasedDigits is \[1\], expected",
    ),
    "compare: unknown setting": Case(
        f"{COMPARE} --settings '{{epoch: 3}}'", "no setting 'epoch'; the nearest are epochs"
    ),
    "compare: setting of another type": Case(
        f"{COMPARE} --settings '{{epochs: few}}'", "epochs is 'few', expected int"
    ),
    "compare: unknown option": Case(
        f"{COMPARE} --seed 1", "no setting '--seed'; the nearest are seeds"
    ),
    "compare: no file": Case(
        "compare --config nowhere.yaml", "no settings file nowhere.yaml; check"
    ),
    "compare: no YAML": Case("compare --config c.yaml", "c.yaml is not YAML", yaml_file("a: [")),
    "compare: a list": Case(
        "compare --config c.yaml", "c.yaml holds list, expected", yaml_file("[1]")
    ),
    "compare: a key twice": Case(
        "compare --config c.yaml",
        "'methods' twice, keep one",
        yaml_file("methods: [plain]\nmethods: [lff]"),
    ),
    "compare: folder is a file": Case(
        COMPARE.replace("compared", "done/config.yaml"),
        "config.yaml is a file; choose another folder",
    ),
    "compare: runs of other settings": Case(
        f"{COMPARE} --seeds [0]",
        "other settings .*; delete it or choose",
        {"compared/BiasedDigits/plain/0/config.yaml": "epochs: 3"},
    ),
    "compare: damaged settings": Case(
        f"{COMPARE} --seeds [0]",
        "config.yaml is damaged.*; delete it",
        {"compared/BiasedDigits/plain/0/config.yaml": "a: ["},
    ),
}
