"""The acceptance list is covered: every number that asks for a case has one, or a reason why not."""

from collections import Counter

import pytest

from walstore.testing.conformance.left_out import LEFT_OUT
from walstore.testing.conformance.numbers import GROUPS, NUMBERS, WANTED_TAGS
from walstore.testing.kit import Case, cases

WANTED = {number for number, tag in NUMBERS.items() if tag in WANTED_TAGS}
LEFT_OUT_AT_MOST = 0.05

LINES = {"A": 24, "B": 9, "C": 49, "D": 38, "F": 36, "G": 6, "I": 36, "J": 12, "K": 30, "M": 86}
"""How many lines each group of the list has."""


def test_list_is_whole() -> None:
    """The list has as many lines in each group as its table of contents says, and names no number twice."""
    assert Counter(number[0] for number in NUMBERS) == LINES

    counted = Counter()  # type: Counter[str]
    for group, (_, tags) in GROUPS.items():
        for runs in tags.values():
            for run in runs.split():
                first, _, last = run.partition("-")
                counted[group] += int(last) - int(first) + 1 if last else 1

    assert counted == LINES


def test_tags_are_known() -> None:
    """Every line is adopted, translated, answered differently, wanted, or not applicable."""
    assert set(NUMBERS.values()) == WANTED_TAGS | {"N"}


@pytest.mark.parametrize("number", sorted(WANTED))
def test_number_is_covered(number: str) -> None:
    """The number has a case, or stands among those that are left out with a reason; never both."""
    registered = {case.number for case in cases()}

    assert (number in registered) is not (number in LEFT_OUT)


def test_nothing_is_registered_that_is_not_on_the_list() -> None:
    """Every case stands for a line of the list that asks for one."""
    assert {case.number for case in cases()} <= WANTED


def test_few_are_left_out() -> None:
    """At most one number in twenty is left out, each with a reason in a sentence."""
    assert len(LEFT_OUT) <= LEFT_OUT_AT_MOST * len(WANTED)
    assert set(LEFT_OUT) <= WANTED
    assert all(len(reason.split()) >= 5 for reason in LEFT_OUT.values())


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case.number))
def test_case_says_what_it_shows(case: Case) -> None:
    """The case says in a sentence what the store must do."""
    assert case.doc.endswith(".")
