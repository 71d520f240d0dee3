"""docs/asvs.md and docs/security.md agree with the tests and the code."""

import ast
import re

import pytest

from hello_login.web.views.activity import EVENTS, FAILURES
from tests.conftest import ROOT

SECURITY = (ROOT / "docs/security.md").read_text()
TRACE = (ROOT / "docs/asvs.md").read_text()
ROWS = re.findall(r"^\| ([\d.]+) \| [123] \| (.*) \| (.*)\|$", TRACE, re.MULTILINE)

APPLICABLE = re.findall(
    r"[\d.]+",
    """
    2.1.1 2.1.2 2.1.3 2.2.1 2.2.2 2.2.3 2.3.1 2.3.2 2.3.3 2.3.4 2.4.1
    1.1.1 1.1.2 1.2.1 1.2.2 1.2.3 1.2.4 1.2.5 1.2.9 1.3.2 1.3.3 1.3.6 1.3.7 1.3.10 1.3.11 1.5.2
    3.2.1 3.2.2 3.3.1 3.3.2 3.3.3 3.3.4 3.3.5 3.4.1 3.4.2 3.4.3 3.4.4 3.4.5 3.4.6 3.4.7 3.4.8
    3.5.1 3.5.3 3.5.4 3.5.6 3.5.7 3.5.8 3.6.1 3.7.2
    5.2.1 5.3.2
    4.1.1 4.1.2 4.1.3 4.1.4 4.2.1
    6.1.1 6.1.2 6.1.3 6.2.1 6.2.2 6.2.3 6.2.4 6.2.5 6.2.6 6.2.7 6.2.8 6.2.9 6.2.10 6.2.11 6.2.12
    6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.3.6 6.3.7 6.3.8 6.4.1 6.4.2 6.4.3 6.4.4 6.4.5 6.4.6
    6.5.1 6.5.2 6.5.3 6.5.4 6.5.5 6.5.6 6.5.7 6.5.8 6.7.1 6.7.2
    7.1.1 7.1.2 7.2.1 7.2.2 7.2.3 7.2.4 7.3.1 7.3.2 7.4.1 7.4.2 7.4.3 7.4.4 7.4.5 7.5.1 7.5.2
    7.5.3 7.6.2
    9.1.1 9.1.2 9.1.3 9.2.1 9.2.2 9.2.3
    8.1.1 8.1.2 8.2.1 8.2.2 8.2.3 8.3.1
    11.1.1 11.1.2 11.2.1 11.2.2 11.2.3 11.2.4 11.3.1 11.3.2 11.3.3 11.4.1 11.4.2 11.5.1
    12.1.1 12.1.2 12.2.1 12.2.2 12.3.1 12.3.2 12.3.3 12.3.4
    13.1.1 13.1.2 13.1.3 13.1.4 13.2.2 13.2.3 13.2.6 13.3.1 13.3.4 13.4.1 13.4.2 13.4.3 13.4.4
    13.4.5 13.4.6 13.4.7
    15.1.1 15.1.2 15.1.3 15.2.1 15.2.2 15.2.3 15.3.1 15.3.2 15.3.3 15.3.4 15.3.5 15.3.6 15.3.7
    14.1.1 14.1.2 14.2.1 14.2.2 14.2.3 14.2.4 14.3.1 14.3.2 14.3.3
    16.1.1 16.2.1 16.2.2 16.2.3 16.2.4 16.2.5 16.3.1 16.3.2 16.3.3 16.3.4 16.4.1 16.4.2 16.4.3
    16.5.1 16.5.2 16.5.3 16.5.4
    """,
)
"""The requirements of ASVS 5.0 that apply to a login with a password, second factor or passkey."""


def test_the_trace_lists_every_applicable_requirement_once_and_in_order() -> None:
    assert [row[0] for row in ROWS] == APPLICABLE


@pytest.mark.parametrize(("requirement", "how", "shown_by"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_of_the_trace_names_a_test_or_says_why_it_is_not_met(
    requirement: str, how: str, shown_by: str
) -> None:
    assert bool(shown_by.strip()) is not how.startswith("not met, because "), requirement


def test_each_test_that_the_trace_names_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TRACE)
    assert len(named) > len(APPLICABLE)
    for file in {file for file, _ in named}:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        existing = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
        assert {test for other, test in named if other == file} <= existing


def test_the_security_page_lists_every_event_that_is_logged() -> None:
    listed = set(re.findall(r"`(\w+)`", SECURITY.partition("| event |")[2].partition("\n\n")[0]))
    unlisted = {"deleted", "registration_throttled", "profile_throttled", "mail_throttled"}
    unlisted |= {"second_step_begun", "second_rate_limited", "factor_rate_limited", "check_passed"}
    unlisted |= {"passkey_used", "passkey_rate_limited"}
    unlisted |= {"csrf_refused", "access_refused", "invited"}
    assert listed == {*EVENTS, *FAILURES, *unlisted}
