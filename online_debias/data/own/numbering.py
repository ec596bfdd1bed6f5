"""Numbers for class names and for the words of a bias attribute."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence


def tidy(word: str) -> str:
    """Write whole numbers alike, since tables have them as `1`, `01` or `1.0`.

    Example:
        >>> tidy("01"), tidy("1.0"), tidy("1.5"), tidy("cat")
        ('1', '1', '1.5', 'cat')
    """
    return str(int(word.split(".")[0])) if re.fullmatch(r"[+-]?[0-9]+(\.0*)?", word) else word


def in_order(words: Collection[str]) -> tuple[str, ...]:
    """Sort distinct words, by value if all are whole numbers.

    Example:
        >>> in_order(["10", "9", "9"]), in_order(["10", "9", "cat"])
        (('9', '10'), ('10', '9', 'cat'))
    """
    numbers = all(re.fullmatch(r"[+-]?[0-9]+", word) for word in words)
    return tuple(sorted(set(words), key=int if numbers else str))


def number_bias(
    values: Sequence[str], targets: Sequence[int], classes: Sequence[str], train: Collection[int]
) -> list[int]:
    """Number the values of a bias attribute so that `bias == target` is bias-aligned.

    1. A value that is the name of a class has the number of that class.
    2. If there are as many other values as other classes, they are matched one to one such that as
       many training samples as possible are aligned: what is usual is what the shortcut says.
    3. Else each of them, those seen most often first, has the number of the class it goes with
       most often if that is still free, and otherwise one past the classes: aligned with none.

    Args:
        values: the value of each sample.
        targets: the class of each sample.
        classes: the names of the classes.
        train: the rows of training samples; those are counted.

    Example:
        >>> number_bias(["sea", "sea", "wood"], [1, 1, 0], ("land bird", "water bird"), range(3))
        [1, 1, 0]
        >>> number_bias(["dog", "cat"], [0, 1], ("cat", "dog"), range(2))
        [1, 0]
    """
    numbers = {name: target for target, name in enumerate(classes) if name in set(values)}
    others = [value for value in in_order(values) if value not in numbers]
    free = [target for target in range(len(classes)) if target not in numbers.values()]
    together = Counter((values[row], targets[row]) for row in train)
    if len(others) == len(free):
        numbers |= _one_to_one(others, free, together)
    else:
        numbers |= _greedy(others, free, together, len(classes))
    return [numbers[value] for value in values]


def _one_to_one(
    values: Sequence[str], free: Sequence[int], together: Counter[tuple[str, int]]
) -> dict[str, int]:
    from scipy.optimize import linear_sum_assignment  # slow to import

    if not values:
        return {}
    counts = [[together[value, target] for target in free] for value in values]
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {values[row]: free[column] for row, column in zip(rows, columns, strict=True)}


def _greedy(
    values: Sequence[str], free: Sequence[int], together: Counter[tuple[str, int]], n_classes: int
) -> dict[str, int]:
    seen = Counter[str]()
    for (value, _), count in together.items():
        seen[value] += count
    numbers: dict[str, int] = {}
    for value in sorted(values, key=lambda value: (-seen[value], values.index(value))):
        usual = max(range(n_classes), key=lambda target: (together[value, target], -target))
        taken = usual not in free or usual in numbers.values()
        beyond = n_classes + sum(number >= n_classes for number in numbers.values())
        numbers[value] = beyond if taken or not seen[value] else usual
    return numbers
