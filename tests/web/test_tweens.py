"""The tweens: log lines, request ids, limits of a path, and static files."""

from typing import Any

import pytest
import webtest
from pyramid.traversal import split_path_info

from hello_login.web.routes import STATIC
from tests.conftest import OpenBrowser
from tests.people import PASSWORD, STYLESHEET, register


def logged_fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [each.__dict__["fields"] for each in caplog.records if each.message == "answered"]


def test_each_request_has_a_log_line(
    browser: webtest.TestApp, open_browser: OpenBrowser, caplog: pytest.LogCaptureFixture
) -> None:
    register(browser)
    caplog.set_level("INFO", "hello_login")
    caplog.clear()
    answer = browser.get("/account?tab=1")
    open_browser(REMOTE_ADDR="2001:db8::1").delete("/nowhere", status=404)
    account, nowhere = logged_fields(caplog)
    assert account.pop("ms") > 0
    assert account.pop("user_id") > 0
    assert nowhere.pop("ms") > 0
    assert account == {
        "method": "GET",
        "route": "account",
        "status": 200,
        "request_id": answer.headers["X-Request-ID"],
        "address": "192.0.2.1",
    }
    assert nowhere.pop("request_id")
    assert nowhere == {
        "method": "DELETE",
        "route": None,
        "status": 404,
        "address": "2001:db8::1",
        "user_id": None,
    }


def test_a_log_line_holds_nothing_that_was_sent(
    browser: webtest.TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    register(browser)
    browser.get(f"/{PASSWORD}?{PASSWORD}".replace(" ", "-"), status=404)
    lines = " ".join(str(each.__dict__.get("fields")) for each in caplog.records)
    assert PASSWORD not in lines
    assert PASSWORD.replace(" ", "-") not in lines


def test_each_request_has_an_id_of_its_own(browser: webtest.TestApp) -> None:
    ids = {browser.get("/").headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


def test_a_path_longer_than_that_of_any_page_is_not_cached(browser: webtest.TestApp) -> None:
    browser.get("/nowhere", status=404)
    cached = split_path_info.cache_info().currsize
    for path in ("/a" * 101, f"/{STATIC}/{'a' * 200}", f"/{STATIC}/style.css{'/a' * 100}"):
        browser.get(path, status=404)
    assert split_path_info.cache_info().currsize == cached


@pytest.mark.parametrize("name", ["", ".", "style.css/", "nothing.css", "..", "style.css.map"])
def test_static_files_are_served_only_by_their_exact_names(
    browser: webtest.TestApp, name: str
) -> None:
    browser.get(f"/{STATIC}/{name}", status=404)


@pytest.mark.parametrize(
    "header",
    [
        ("Range", "bytes=" + "1" * 5000),
        ("Range", "bytes=" + " " * 5000 + "x"),
        ("If-Modified-Since", "Mon, 01 Jan 99999999999 00:00:00 GMT"),
        ("If-None-Match", '"'),
    ],
)
def test_a_static_file_is_sent_whole_despite_malformed_range_and_cache_headers(
    browser: webtest.TestApp, header: tuple[str, str]
) -> None:
    whole = browser.get(STYLESHEET)
    assert browser.get(STYLESHEET, headers=dict([header]), status=200).body == whole.body
