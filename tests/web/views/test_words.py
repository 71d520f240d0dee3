"""Durations and times ago, in words."""

from datetime import timedelta

import pytest

from hello_login.web.views import ago, in_words


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=0.2), "1 second"),
        (timedelta(seconds=59), "59 seconds"),
        (timedelta(seconds=60), "1 minute"),
        (timedelta(seconds=61), "2 minutes"),
        (timedelta(hours=1), "60 minutes"),
    ],
)
def test_a_wait_in_words_is_rounded_up(time: timedelta, words: str) -> None:
    assert in_words(time) == words


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=60), "1 minute ago"),
        (timedelta(minutes=59, seconds=59), "59 minutes ago"),
        (timedelta(hours=23), "23 hours ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=13, hours=23), "13 days ago"),
    ],
)
def test_a_time_ago_is_shown_in_the_largest_unit_that_fits(time: timedelta, words: str) -> None:
    assert ago(time) == words
