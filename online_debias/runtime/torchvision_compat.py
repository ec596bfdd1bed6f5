"""The one way to torchvision, also where its compiled operators do not fit the build of torch.

PyPI's torchvision is compiled against CUDA. Beside a CPU build of torch its operators do not load
and `import torchvision` ends with "operator torchvision::nms does not exist", because Python code
is registered for operators that are not there. Declaring them first lets the rest of torchvision
(data sets, models, transforms) work; only the compiled operators themselves stay missing.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import torch

_declared: list[torch.library.Library] = []  # a declaration lives as long as its Library object


def import_torchvision() -> ModuleType:
    """Return the torchvision module.

    Raises:
        ImportError: torchvision is not installed.
    """
    missing = ""
    while True:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            found = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if found is None or found[1] == missing:
                raise
            missing = found[1]
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]  # half-imported
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define(f"{missing}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
