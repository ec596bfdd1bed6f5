"""UrbanCars: cars with two biases at once, the background and an object beside the car."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from online_debias.data.own.listed import Listed
from online_debias.data.reading.files import Damaged, Listing
from online_debias.data.reading.layouts import is_image, not_found

PLACES = ("urban", "country")


class UrbanCars(Listed):
    """City and country cars before city and country backgrounds, with a thing of either.

    From "A Whac-A-Mole Dilemma" (Li et al., CVPR 2023). The class is the car, 0 urban and 1
    country. The two biases make one bias label of four values:

    | label | background | object |
    |---|---|---|
    | 0 | urban | urban |
    | 1 | country | country |
    | 2 | urban | country |
    | 3 | country | urban |

    so that a label equal to the class means that *both* go with the car. In training 95 % of the
    backgrounds and 95 % of the objects do, independently, so 90 % are aligned; validation and
    test have all eight groups equally often. Validation is *not* biased as training is.

    Args:
        root: Folder that holds `urbancars`, or that folder itself.
        size: Pixels a side: the shorter side is scaled to it, the middle is cut out.
        ratio: Share of training backgrounds, and of objects, that go with the car.
        damaged: Refuse when images cannot be read, or skip these.

    Raises:
        FileNotFoundError: If a folder is missing, with the expected tree.
        ValueError: For an argument out of range.

    Example:
        >>> UrbanCars("data").train().bias.unique()  # doctest: +SKIP
        tensor([0, 1, 2, 3])
    """

    summary: ClassVar[str] = "Cars with two biases at once (Li et al., 2023)."
    expected_tree: ClassVar[str] = (
        "ROOT/\n"
        "  urbancars/                              (or ROOT/ itself)\n"
        "    bg-0.95_co_occur_obj-0.95/train/\n"
        "      obj-urban_bg-urban_co_occur_obj-urban/*.jpg\n"
        "      ...                                 (urban or country, three times)\n"
        "    bg-0.5_co_occur_obj-0.5/val/          (the same eight folders)\n"
        "    bg-0.5_co_occur_obj-0.5/test/"
    )
    classes: tuple[str, ...] = PLACES

    def __init__(
        self,
        root: str | Path,
        size: int = 128,
        ratio: float = 0.95,
        damaged: Damaged = "refuse",
    ) -> None:
        root = Path(root).expanduser()
        inner = root / "urbancars" if (root / "urbancars").is_dir() else root
        listings = {}
        for name, share in (("train", ratio), ("val", 0.5), ("test", 0.5)):
            folder = inner / f"bg-{share:g}_co_occur_obj-{share:g}" / name
            listing = _list(inner, folder)
            if not listing.paths:
                raise not_found(
                    root, f"images in {folder.relative_to(root).as_posix()}", self.expected_tree
                )
            listings["validation" if name == "val" else name] = listing
        super().__init__(inner, listings, size, damaged)


def bias_label(background: int, thing: int) -> int:
    """The bias label of a background and an object beside the car, each 0 urban or 1 country.

    Example:
        >>> [bias_label(0, 0), bias_label(1, 1), bias_label(0, 1), bias_label(1, 0)]
        [0, 1, 2, 3]
    """
    return background if background == thing else 2 + background


def _list(root: Path, folder: Path) -> Listing:
    paths, targets, biases = [], [], []
    for car, car_name in enumerate(PLACES):
        for background, background_name in enumerate(PLACES):
            for thing, thing_name in enumerate(PLACES):
                name = f"obj-{car_name}_bg-{background_name}_co_occur_obj-{thing_name}"
                for path in sorted(filter(is_image, folder.glob(f"{name}/*"))):
                    paths.append(path.relative_to(root).as_posix())
                    targets.append(car)
                    biases.append(bias_label(background, thing))
    return Listing(paths, targets, biases, PLACES)
