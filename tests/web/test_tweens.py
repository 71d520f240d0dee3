"""What stands around every request."""

from typing import Any

import pytest
import webtest

from tests.conftest import MakeClient
from tests.people import PASSWORD, register


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [each.__dict__["fields"] for each in caplog.records if each.message == "answered"]


def test_each_request_has_its_line(
    browser: webtest.TestApp, client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    register(browser)
    caplog.set_level("INFO", "hello_login")
    caplog.clear()
    shown = browser.get("/account?tab=1")
    client(REMOTE_ADDR="2001:db8::1").delete("/nowhere", status=404)
    account, nowhere = fields(caplog)
    assert account.pop("ms") > 0
    assert account.pop("user_id") > 0
    assert nowhere.pop("ms") > 0
    assert account == {
        "method": "GET",
        "route": "account",
        "status": 200,
        "request_id": shown.headers["X-Request-ID"],
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


def test_a_line_holds_nothing_that_was_sent(
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
