"""Public path of `import_torchvision`, for own loops; it lives in runtime."""

from online_debias.runtime.torchvision_compat import import_torchvision as import_torchvision
