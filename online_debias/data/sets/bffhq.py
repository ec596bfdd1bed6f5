"""bFFHQ: portraits, age as the class and the sex as the bias."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, get_args

from online_debias.data.own.listed import Listed
from online_debias.data.reading.files import Damaged
from online_debias.data.reading.layouts import join_trees, not_found
from online_debias.data.reading.pct_layout import find_pct, list_pct, pct_tree

Test = Literal["conflicting", "all"]


class BFFHQ(Listed):
    """Portraits of the young and the old: nearly all young ones are women, the old ones men.

    From "Learning Debiased Representation via Disentangled Feature Augmentation" (Lee et al.,
    NeurIPS 2021), made of FFHQ. The class is the age, 0 young and 1 old; the bias label is what
    the file names say, 0 for women and 1 for men, so that young women and old men are
    bias-aligned. `valid/` is looked for in the folder of the share first, then beside it.

    Args:
        root: Folder that holds `bffhq`, or that folder itself.
        size: Pixels a side; the released images have 128.
        skew: Share of bias-conflicting training images; .005 is released as `0.5pct`.
        test: `"conflicting"` tests on the conflicting images only, as the authors do; `"all"` on
            the whole balanced set, as MoDAD does. Figures of the two cannot be compared.
        damaged: Refuse when images cannot be read, or skip these.

    Raises:
        FileNotFoundError: If the files are missing, with the expected tree.
        ValueError: For an argument out of range, or a file whose name does not tell its labels.

    Example:
        >>> BFFHQ("data", test="all").test().images.shape  # doctest: +SKIP
        torch.Size([1000, 3, 128, 128])
    """

    summary: ClassVar[str] = "Portraits: young women and old men (Lee et al., 2021)."
    expected_tree: ClassVar[str] = join_trees(pct_tree("bffhq"))
    classes: tuple[str, ...] = ("young", "old")

    def __init__(
        self,
        root: str | Path,
        size: int = 128,
        skew: float = 0.005,
        test: Test = "conflicting",
        damaged: Damaged = "refuse",
    ) -> None:
        if test not in get_args(Test):
            raise ValueError(f"test={test!r} must be conflicting or all.")
        root = Path(root).expanduser()
        share = find_pct(root, "bffhq", skew)
        if share is None:
            raise not_found(root, f"bFFHQ of {100 * skew:g} %", self.expected_tree)
        listings = {}
        for name, split in (("train", "train"), ("validation", "valid"), ("test", "test")):
            listing = list_pct(root, share, split, self.classes)
            if listing is not None:
                listings[name] = listing
            elif name != "validation":
                raise not_found(root, f"images for {name} in '{share}'", self.expected_tree)
        if test == "conflicting":
            everything = listings["test"]
            assert everything.bias is not None
            pairs = zip(everything.targets, everything.bias, strict=True)
            listings["test"] = everything.rows([i for i, (y, b) in enumerate(pairs) if y != b])
        super().__init__(root, listings, size, damaged)
