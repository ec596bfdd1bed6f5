"""What a run says of its data, in one sentence: is there a shortcut?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentence(results: Mapping[str, Any]) -> str:
    """Return the verdict that results.json holds, for a person to read.

    Args:
        results: with `shortcut` (true, false, or missing where nobody looked for one),
            `shortcut_evidence` and, where they are known, `shortcut_rows`, `shortcut_followed`,
            `shortcut_texture`, `shortcut_part`, `part_evidence`, `conflicting_share` and
            `suspected_noise`.

    Example:
        >>> sentence({"shortcut": True, "shortcut_evidence": 0.94, "conflicting_share": 0.021})
        'There is a shortcut: a simple view tells the class of most training images (evidence 0.94), and about 2.1 % of them contradict it.'
        >>> sentence({"shortcut": False, "shortcut_evidence": 0.28, "suspected_noise": 1})
        'No shortcut was seen: no simple view tells the class (evidence 0.28), so training was left as it is. 1 image looks mislabelled.'
        >>> sentence({"shortcut": False, "shortcut_evidence": 0.5, "shortcut_followed": 0.2})
        'No shortcut was seen: a simple view tells the class of many training images (evidence 0.50), but the model sides with it in only 20 % of those that contradict it, so training was left as it is.'
        >>> sentence({"shortcut": True, "shortcut_part": "top", "part_evidence": 0.8})
        'There is a shortcut: a part of the images (top) shows another thing than the class, but tells it in most training images (evidence 0.80).'
        >>> sentence({"shortcut": True, "shortcut_evidence": 0.5, "shortcut_texture": 0.93})
        'There is a shortcut: the texture of the images tells the class of most training images (evidence 0.93).'
        >>> sentence({"shortcut": False, "shortcut_evidence": 0.96, "shortcut_rows": 384})
        'No shortcut was seen, but only 384 rows were looked at, too few to judge; train for more epochs.'
        >>> sentence({})
        'This run did not look for a shortcut.'
    """  # noqa: E501
    found, noise = results.get("shortcut"), results.get("suspected_noise")
    if found is None:
        text = "This run did not look for a shortcut."
    elif found:
        share = results.get("conflicting_share")
        contradict = (
            "" if share is None else f", and about {100 * share:.1f} % of them contradict it"
        )
        what, evidence = "a simple view tells the class of", "shortcut_evidence"
        if part := results.get("shortcut_part"):
            what = (
                f"a part of the images ({part}) shows another thing than the class, but tells it in"
            )
            evidence = "part_evidence"
        elif "shortcut_texture" in results:
            what, evidence = "the texture of the images tells the class of", "shortcut_texture"
        sure = f"(evidence {results[evidence]:.2f})"
        text = f"There is a shortcut: {what} most training images {sure}{contradict}."
    elif rows := results.get("shortcut_rows"):
        text = (
            f"No shortcut was seen, but only {rows:,} rows were looked at, too few to judge; train "
            "for more epochs."
        )
    else:
        followed = results.get("shortcut_followed")
        reason = (
            "no simple view tells the class (evidence {:.2f})"
            if followed is None
            else "a simple view tells the class of many training images (evidence {:.2f}), but the "
            f"model sides with it in only {100 * followed:.0f} % of those that contradict it"
        ).format(results["shortcut_evidence"])
        text = f"No shortcut was seen: {reason}, so training was left as it is."
    if noise:
        text += (
            " 1 image looks mislabelled." if noise == 1 else f" {noise:,} images look mislabelled."
        )
    return text
