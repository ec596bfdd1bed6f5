"""Methods as YAML: what `--method NAME` stands for."""
