"""Tables of a comparison: what cells show, how marks look and what surrounds them."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from online_debias.comparison.summary import METRICS, Quoted, Section, summarize
from online_debias.comparison.tables import latex, markdown, terminal
from tests.test_summary import METHODS, Given, marks, rows


def cells(text: str) -> dict[str, dict[str, str]]:
    """Method -> head -> cell, of a Markdown table."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:2] == "| "]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}


def printed(section: Section) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(terminal(section))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_cells_show_percent_three_decimals_and_readable_counts() -> None:
    table = cells(markdown(summarize(rows(METHODS), "last")))
    assert table["plain"]["unbiased"] == "13.0 ± 3.6"
    assert table["two-step"]["unbiased"] == "<u>64.0 ± 4.0</u>"
    assert table["two-step"]["seconds"] == "33.7"
    assert table["two-step"]["× plain"] == "2.50"
    assert table["two-step"]["trainings"] == "2"
    assert table["online"]["AUROC"] == "**0.999 ± 0.000**"
    assert table["online"]["samples"] == "79.9k"
    assert table["online"]["seconds"] == table["plain"]["AUROC"] == "-"
    assert "AP" not in table["plain"] and "accuracy" not in table["plain"]


@pytest.mark.parametrize(
    "value, shown",
    [(0, "0"), (150, "150"), (999.6, "1k"), (79872, "79.9k"), (999_600, "1M"), (2.5e9, "2.5G")],
)
def test_counts_have_three_digits(value: float, shown: str) -> None:
    (section,) = summarize(rows({"a": [{"extra_parameters": value}]}), "last")
    assert cells(markdown([section]))["a"]["extra parameters"] == shown


def test_oracle_rows_stand_outside_the_ranking() -> None:
    (section,) = summarize(rows(METHODS), "last")
    assert marks(section, "accuracy_unbiased") == {"online": "best", "two-step": "second"}
    text = markdown([section])
    assert "group-dro (oracle)" in cells(text) and "rank outside" in text


def test_an_oracle_selection_ranks_all_and_says_so() -> None:
    (section,) = summarize(rows(METHODS), "oracle-validation")
    assert marks(section, "accuracy_unbiased") == {"group-dro": "best", "online": "second"}
    text = markdown([section])
    assert "every row is an oracle one" in text
    assert "epoch with the best unbiased accuracy on annotated validation images (oracle)" in text


def test_what_shows_the_same_mean_shares_its_mark() -> None:
    shares = {"a": 0.8004, "b": 0.7996, "c": 0.7006, "d": 0.7014, "e": 0.6}
    given = {name: [{"accuracy": share}] for name, share in shares.items()}
    (section,) = summarize(rows(given), "last")
    expected = {"a": "best", "b": "best", "c": "second", "d": "second"}
    assert marks(section, "accuracy") == expected
    text = cells(markdown([section]))
    assert text["a"]["accuracy"] == text["b"]["accuracy"] == "**80.0**"
    assert text["c"]["accuracy"] == text["d"]["accuracy"] == "<u>70.1</u>"
    assert text["e"]["accuracy"] == "60.0"


def test_one_seed_has_no_deviation() -> None:
    (section,) = summarize(rows({"plain": [{"accuracy": 0.5}]}), "last")
    assert section.lines[0].values["accuracy"] == (0.5, None)
    text = markdown([section])
    assert "**50.0**" in text and "; 1 seed." in text and "±" not in text


def test_rows_with_fewer_seeds_say_so() -> None:
    given = {"plain": [{"accuracy": 0.5}] * 3, "online": [{"accuracy": 0.6}] * 2}
    text = markdown(summarize(rows(given), "last"))
    table = cells(text)
    assert (table["plain"]["seeds"], table["online"]["seeds"]) == ("3", "2")
    assert "2 to 3 seeds, mean ± standard deviation" in text
    assert "seeds" not in cells(markdown(summarize(rows(METHODS), "last")))["plain"]


def test_there_is_a_section_for_each_data_set_and_ratio_in_order() -> None:
    given: Given = {"plain": [{"accuracy": 0.5}]}
    many = [*rows(given, ratio="0.98"), *rows(given, "birds", ""), *rows(given, ratio="0.9")]
    sections = summarize(many, "last")
    assert [(s.data, s.ratio) for s in sections] == [
        ("digits", 0.98),
        ("birds", None),
        ("digits", 0.9),
    ]
    text = markdown(sections)
    for title in ("**digits, 98 % bias-aligned**", "**birds**", "**digits, 90 % bias-aligned**"):
        assert title in text
    assert latex(sections).count(r"\begin{table}") == 3


QUOTED = [
    Quoted("DDB-I", "digits", {"accuracy_unbiased": "95.13+-.46"}, "Ciranni & al.", 0.98),
    Quoted("LfF", "digits", {"accuracy_unbiased": 78, "training_passes": 1}, "Nam et al.", 0.98),
    Quoted("JTT", "digits", {"detect_auroc": 0.98}, "Ciranni & al.", 0.98),
    Quoted("LISA", "birds", {"accuracy_worst_group": 89.2}, "Yao et al."),
]


def test_quoted_rows_come_last_in_italics_with_their_source_and_no_mark() -> None:
    digits, birds = summarize(rows(METHODS), "last", QUOTED)
    assert marks(digits, "accuracy_unbiased") == {"online": "best", "two-step": "second"}
    text = markdown([digits])
    table = cells(text)
    assert list(table)[-3:] == ["*DDB-I [1]*", "*LfF [2]*", "*JTT [1]*"]
    assert table["*DDB-I [1]*"]["unbiased"] == "*95.13 ± .46*"
    assert table["*LfF [2]*"]["unbiased"] == "*78.0*"
    assert table["*LfF [2]*"]["trainings"] == "*1*"
    assert table["*JTT [1]*"]["AUROC"] == "*0.980*"
    assert table["*JTT [1]*"]["unbiased"] == table["*JTT [1]*"]["seconds"] == "-"
    assert text.endswith("- [1] Ciranni & al.\n- [2] Nam et al.\n")
    assert cells(markdown([birds])) == {
        "*LISA [1]*": {"method": "*LISA [1]*", "worst group": "*89.2*"}
    }
    for said in (latex([digits]), printed(digits)):
        assert "LISA" not in said and "78.0" in said and "Nam et al." in said


@pytest.mark.parametrize("given", ["91.4+-1.1", "91.4 +/- 1.1", "91.4 ± 1.1", " 91.4+- 1.1 "])
def test_quoted_text_may_write_plus_minus_as_it_likes(given: str) -> None:
    quoted = Quoted("a", "digits", {"accuracy": given}, "b")
    assert cells(markdown(summarize([], "last", [quoted])))["*a [1]*"]["accuracy"] == (
        "*91.4 ± 1.1*"
    )


@pytest.mark.parametrize("selection", ["last", "best-biased-validation", "oracle-validation"])
def test_every_form_names_the_selection_rule(selection: Any) -> None:
    (section,) = summarize(rows(METHODS), selection)
    rule = {
        "last": "last epoch",
        "best-biased-validation": "epoch with the best accuracy on biased validation images",
        "oracle-validation": "epoch with the best unbiased accuracy on annotated validation images",
    }[selection]
    for text in (markdown([section]), latex([section]), printed(section)):
        assert f"{rule}" in " ".join(text.split())
        assert "3 seeds" in " ".join(text.split())


def test_markdown_keeps_a_name_from_changing_the_table() -> None:
    table = markdown(summarize(rows({"a|b_c*": [{"accuracy": 0.5}]}), "last"))
    assert r"| a\|b\_c\* | **50.0** |" in table


NASTY = r"a_b & 50% of $x$ #1 {c} ~ ^ \ < > | [d]"


def test_latex_escapes_what_means_something() -> None:
    quoted = Quoted("p_q", NASTY, {"accuracy": "50 %"}, NASTY)
    text = latex(summarize(rows({NASTY: [{"accuracy": 0.5}] * 2}, NASTY, ""), "last", [quoted]))
    escaped = (
        r"a\_b \& 50\% of \$x\$ \#1 \{c\} \textasciitilde{} \textasciicircum{} "
        r"\textbackslash{} \textless{} \textgreater{} \textbar{} {[}d{]}"
    )
    assert text.count(escaped) == 3  # caption, row and citation
    assert NASTY not in text
    assert r"\textbf{50.0 $\pm$ 0.0} \\" in text
    assert r"\textit{50 \%} \\" in text
    balanced(text)


def balanced(text: str) -> None:
    """Every environment, brace and formula is closed, and every row has all columns."""
    bare = re.sub(r"%.*|\\[\\{}$&%]", lambda found: "\\\\" * (found[0] == "\\\\"), text)
    depth, opened = 0, []
    for token in re.findall(r"\\(?:begin|end)\{\w+\}|[{}]", bare):
        if token.startswith("\\begin"):
            opened.append(token[6:])
        elif token.startswith("\\end"):
            assert opened.pop() == token[4:]
        else:
            depth += 1 if token == "{" else -1
            assert depth >= 0
    assert depth == 0 and not opened
    assert bare.count("$") % 2 == 0
    for table in bare.split(r"\begin{table}")[1:]:
        found = re.search(r"\\begin\{tabular\}\{(l\w*)\}(.*)\\end\{tabular\}", table, re.DOTALL)
        assert found is not None
        lines = [line for line in found[2].splitlines() if line.endswith("\\\\")]
        assert lines and {line.count("&") for line in lines} == {len(found[1]) - 1}


def test_latex_is_balanced_and_has_what_a_paper_needs() -> None:
    text = latex(summarize(rows(METHODS), "last", QUOTED))
    balanced(text)
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\label{tab:digits-98-bias-aligned}"):
        assert part in text
    assert r"online & \textbf{80.0 $\pm$ 0.0}" in text
    assert r"two-step & \underline{64.0 $\pm$ 4.0}" in text
    assert r"\caption{digits, 98 \% bias-aligned. Test accuracies" in text


def test_the_terminal_table_fits_100_columns() -> None:
    run = dict.fromkeys(METRICS, 0.98765) | {"seconds_training": 123456.0}
    given = {name: [run, {**run, "accuracy_unbiased": 0.5}] for name in METHODS}
    given["online-minimal (oracle)"] = [run]  # also the number of seeds is shown
    (section,) = summarize(rows(given), "last")
    table = terminal(section)
    assert Console(width=300).measure(table).minimum <= 100
    text = printed(section)
    assert max(map(len, text.splitlines())) <= 100
    for shown in ("74.4 ± 34.5", "0.988", "digits, 98 % bias-aligned"):
        assert shown in text


def test_the_terminal_shows_accuracy_where_there_are_no_groups() -> None:
    (section,) = summarize(rows({"plain": [{"accuracy": 0.5}]}), "last")
    assert "accuracy" in printed(section) and "50.0" in printed(section)
    (section,) = summarize(rows({"plain": [{"accuracy": 0.5, "accuracy_unbiased": 0.25}]}), "last")
    assert "25.0" in printed(section) and "50.0" not in printed(section)


def test_the_terminal_shows_quoted_rows_alone() -> None:
    (section,) = summarize([], "last", QUOTED[-1:])
    assert "LISA" in printed(section) and "89.2" in printed(section)
