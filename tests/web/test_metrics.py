"""The metrics at /metrics: their token, their counts and their labels."""

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import webtest
import yaml
from prometheus_client import values
from psycopg2.extensions import connection as Connection
from waitress.adjustments import Adjustments

import hello_login
from hello_login.repositories import mails
from hello_login.server.serving import Server
from hello_login.web import metrics
from hello_login.web.views.activity import EVENTS, FAILURES
from tests.conftest import ROOT, MakeIni, OpenBrowser
from tests.people import EMAIL, log_in, log_out, register
from tests.samples import HEADERS, TOKEN, Samples, parse

NAME = re.compile(r"hello_login_\w+")


def read(browser: webtest.TestApp) -> Samples:
    """Return the samples at /metrics."""
    answer = browser.get("/metrics", headers=HEADERS)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parse(answer.text)


@pytest.fixture
def counting(ini: MakeIni) -> Any:
    """Return an application with metrics, which count from zero."""
    return hello_login.main({}, **ini(metrics_token=TOKEN))


@pytest.fixture
def site(open_browser: OpenBrowser, counting: Any) -> webtest.TestApp:
    return open_browser(counting)


@pytest.fixture
def committing_site(ini: MakeIni, emptied_url: str) -> webtest.TestApp:
    """Return a browser whose requests commit, because events are counted after the commit."""
    app = hello_login.main({}, **ini(database_url=emptied_url, metrics_token=TOKEN))
    environ = {"HTTP_HOST": "localhost", "HTTP_ACCEPT": "text/html", "REMOTE_ADDR": "192.0.2.1"}
    return webtest.TestApp(app, extra_environ=environ)


def test_without_a_token_there_is_no_such_page_and_nothing_is_counted(
    app: Any, browser: webtest.TestApp
) -> None:
    answer = browser.get("/metrics", headers=HEADERS, status=404)
    assert answer.html.h1.get_text() == "There is no such page"
    assert app.registry.metrics is None


@pytest.mark.parametrize(
    "sent", ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}a", "Bearer \xe5"]
)
def test_a_request_without_the_right_token_is_refused(site: webtest.TestApp, sent: str) -> None:
    site.extra_environ["HTTP_AUTHORIZATION"] = sent
    answer = site.get(f"/metrics?token={TOKEN}", status=401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "hello_login_" not in answer
    assert TOKEN not in answer


def test_prometheus_may_use_the_address_of_a_machine(ini: MakeIni) -> None:
    options = {"site_url": "https://login.example.org", "secure_cookies": "true"}
    site = webtest.TestApp(hello_login.main({}, **ini(metrics_token=TOKEN, **options)))
    site.extra_environ["HTTP_HOST"] = "192.0.2.1:5000"
    site.get("/", status=421)
    assert read(site)["requests_total", "none", "421"] == 1


def test_the_token_is_not_logged(
    site: webtest.TestApp, counting: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    read(site)
    site.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}x"}, status=401)
    assert len([each for each in caplog.records if each.message == "answered"]) == 2
    assert TOKEN not in str([each.__dict__ for each in caplog.records])
    assert TOKEN not in repr(counting.registry.hello_login)


def test_requests_are_counted_by_route_and_status_and_timed_by_route(
    site: webtest.TestApp,
) -> None:
    site.get("/")
    site.get("/")
    site.get("/account", status=303)
    register(site)
    samples = read(site)
    assert samples["requests_total", "greeting", "200"] == 2
    assert samples["requests_total", "account", "303"] == 1
    assert samples["requests_total", "register", "200"] == 1
    assert samples["requests_total", "register", "303"] == 1
    assert ("requests_total", "metrics", "200") not in samples  # not answered yet
    assert samples["request_seconds_count", "register"] == 2
    assert samples["request_seconds_count", "greeting"] == 2
    assert samples["request_seconds_bucket", "+Inf", "greeting"] == 2
    assert 0 < samples["request_seconds_sum", "register"] < 60
    assert read(site)["requests_total", "metrics", "200"] == 1


def test_unknown_paths_and_methods_add_no_series(site: webtest.TestApp) -> None:
    for number, method in enumerate(("PUT", "DELETE", "TRACE", "OPTIONS", "PATCH")):
        site.request(f"/nowhere{number}?a={number}", method=method, status=404)
        site.get(f"/link/{number}", status=404)
    samples = read(site)
    requests = {key[1:]: samples[key] for key in samples if key[0] == "requests_total"}
    assert requests == {("none", "404"): 5, ("link", "404"): 5}
    timed = {key[1:]: samples[key] for key in samples if key[0] == "request_seconds_count"}
    assert timed == {("none",): 5, ("link",): 5}


def test_logins_failures_and_refused_attempts_are_counted(
    committing_site: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = committing_site
    monkeypatch.setattr("hello_login.auth.rate_limits.MAX_PER_NETWORK", 2)
    first = read(site)
    for event in ("logged_in", "login_failed", "login_throttled"):
        assert first["events_total", event] == 0
    register(site)
    log_out(site)
    log_in(site)
    log_out(site)
    for status in (422, 422, 429):
        log_in(site, email="nobody@example.com", status=status)
    site.post("/login", status=400)
    samples = read(site)
    assert samples["events_total", "logged_in"] == 2  # a registration logs in, too
    assert samples["events_total", "registered"] == 1
    assert samples["events_total", "login_failed"] == 2
    assert samples["events_total", "login_throttled"] == 1
    assert samples["requests_total", "login", "429"] == 1
    assert samples["events_total", "csrf_refused"] == 1


def test_the_outbox_is_counted_at_each_scrape(site: webtest.TestApp, db: Connection) -> None:
    for number in range(5):
        mails.insert(db, "forgot", f"{number}@example.com")
    db.commit()
    with db.cursor() as cursor:
        cursor.execute("UPDATE mails SET try_at = 'infinity' WHERE recipient < '2'")
    samples = read(site)
    assert samples["mails_waiting",] == 3
    assert samples["mails_failed",] == 2
    assert samples["database_up",] == 1


def test_without_its_database_a_process_still_returns_its_own_metrics(ini: MakeIni) -> None:
    nowhere = ini(database_url="postgresql://ada@127.0.0.1:1/app", metrics_token=TOKEN)
    site = webtest.TestApp(hello_login.main({}, **nowhere))
    site.get("/")
    samples = read(site)
    assert samples["database_up",] == 0
    assert samples["requests_total", "greeting", "200"] == 1
    assert ("mails_waiting",) not in samples


def test_labels_hold_the_names_of_routes_and_events_only(
    committing_site: webtest.TestApp, counting: Any
) -> None:
    register(committing_site)
    committing_site.get("/account")
    committing_site.get(f"/link/{EMAIL}", status="*")
    routes = counting.registry.introspector.get_category("routes")
    names = {each["introspectable"]["name"] for each in routes} | {"none"}
    events = {*EVENTS, *FAILURES, *metrics.COUNTED_FROM_START}
    for name, *labels in read(committing_site):
        if name == "requests_total":
            route, status = labels
            assert route in names
            assert re.fullmatch("[1-5][0-9][0-9]", status)
        elif name.startswith("request_seconds"):
            assert labels[-1] in names
        elif name == "events_total":
            assert set(labels) <= events
        else:
            assert not labels


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Return a function that lets several processes share their metrics, until the test ends."""
    monkeypatch.setenv(metrics.FOLDER_VARIABLE, "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    monkeypatch.setattr(metrics, "_process", metrics._process)

    def make(processes: int) -> Path:
        metrics.share(processes)
        return Path(os.environ[metrics.FOLDER_VARIABLE])

    return make


def test_processes_are_added_up_and_a_replaced_one_goes_on_with_its_counts(
    share: Callable[[int], Path], ini: MakeIni, open_browser: OpenBrowser
) -> None:
    share(2)
    counting = hello_login.main({}, **ini(metrics_token=TOKEN))
    site = open_browser(counting)
    assert read(site)["events_total", "logged_in"] == 0
    for process, requests in ((0, 1), (1, 3)):
        metrics.begin_process(process)
        counting.registry.metrics.set_gauges(forms_waiting=requests)
        for _ in range(requests):
            site.get("/")
    assert read(site)["requests_total", "greeting", "200"] == 4
    assert read(site)["forms_waiting",] == 4
    metrics.begin_process(0)  # a replacement, which has not read the files yet
    counting.registry.metrics.set_gauges(forms_waiting=0)
    site.get("/login")
    samples = read(site)
    assert samples["requests_total", "greeting", "200"] == 4
    assert samples["requests_total", "login", "200"] == 1
    assert samples["request_seconds_count", "greeting"] == 4
    assert samples["forms_waiting",] == 3


def test_the_files_of_all_processes_have_their_size_from_the_start(
    share: Callable[[int], Path], ini: MakeIni, open_browser: OpenBrowser
) -> None:
    folder = share(2)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert len(sizes) == 9
    assert all(path.stat().st_blocks * 512 >= sizes[path.name] for path in folder.iterdir())
    counting = hello_login.main({}, **ini(metrics_token=TOKEN))
    metrics.begin_process(1)
    routes = counting.registry.introspector.get_category("routes")
    for route in [each["introspectable"]["name"] for each in routes]:
        for status in (200, 303, 400, 403, 404, 405, 422, 429, 503):
            counting.registry.metrics.count_request(route, status, 0.1)
    for event in (*EVENTS, *FAILURES):
        counting.registry.metrics.count_event(event)
    open_browser(counting).get("/")
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == sizes


def test_the_gauges_are_those_of_the_server_and_its_application(counting: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(counting, listener, Adjustments(threads=1, asyncore_use_poll=True, ident=""))
    browser = webtest.TestApp(counting)
    try:
        with counting.registry.pool.autocommit():
            server.maintenance(0)
            assert read(browser)["connections_in_use",] == 1
        server.maintenance(0)
        samples = read(browser)
    finally:
        server.close()
        server.trigger.close()
        for dispatcher in (server.task_dispatcher, server.form_dispatcher):
            dispatcher.shutdown()
    for name in ("connections_in_use", "forms_waiting", "hash_workers_busy", "hashes_waiting"):
        assert samples[name,] == 0


def test_the_documents_name_only_metrics_that_exist(site: webtest.TestApp) -> None:
    site.get("/")
    existing = {f"hello_login_{key[0]}" for key in read(site)}
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    shown = [each["expr"] for panel in dashboard["panels"] for each in panel["targets"]]
    page = (ROOT / "docs/operations.md").read_text()
    (rules,) = [
        yaml.safe_load(each)
        for each in re.findall("```yaml\n(.*?)```", page, re.DOTALL)
        if each.startswith("groups:")
    ]
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(shown) >= 6
    assert len(alerts) >= 4
    for expression in (*shown, *alerts):
        assert NAME.findall(expression), expression
        assert set(NAME.findall(expression)) <= existing, expression
    listed = page.partition("| metric |")[2].partition("\n\n")[0]
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in existing}
    assert set(NAME.findall(listed)) == families
