"""Sessions, their cookies, CSRF protection and security headers."""

from typing import Any

import pytest
import webtest
from psycopg2.extensions import connection as Connection

import hello_login
from hello_login.web.routes import STATIC
from tests.conftest import SECRET_KEY, MakeIni, OpenBrowser
from tests.people import EMAIL, PASSWORD, STYLESHEET, csrf_token, log_in, log_out, register


def cookies_set(response: Any) -> dict[str, str]:
    """Return the attributes of each cookie that the response sets, by its name."""
    headers = response.headers.getall("Set-Cookie")
    pairs = (header.partition("=") for header in headers)
    return {name: rest.partition("; ")[2] for name, _, rest in pairs}


@pytest.fixture
def production_browser(open_browser: OpenBrowser, production_app: Any) -> webtest.TestApp:
    """Return a browser of the production site."""
    more = {
        "wsgi.url_scheme": "https",
        "HTTP_ORIGIN": "https://localhost",
        "HTTP_HOST": "localhost",
    }
    return open_browser(production_app, **more)


def test_a_stolen_session_cookie_is_void_after_the_logout(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(browser)
    thief = open_browser()
    thief.set_cookie("session", browser.cookies["session"])
    assert "Ada" in thief.get("/account")
    log_out(browser)
    assert thief.get("/account", status=303).location.startswith("http://localhost/login")


def test_a_second_login_in_a_logged_in_browser_creates_no_session(
    browser: webtest.TestApp, db: Connection
) -> None:
    form = browser.get("/login").forms[0]
    register(browser)
    session = browser.cookies["session"]
    form["csrf_token"] = csrf_token(browser)
    form["email"], form["password"] = EMAIL, PASSWORD
    assert form.submit(status=303).location == "http://localhost/account"
    assert browser.cookies["session"] == session
    with db.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sessions")
        assert cursor.fetchone() == (1,)


def test_a_logout_does_not_end_other_sessions(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    register(browser)
    other = open_browser()
    log_in(other)
    log_out(other)
    assert "Ada" in browser.get("/account")


def test_a_forged_session_cookie_is_ignored(browser: webtest.TestApp) -> None:
    register(browser)
    cookie = browser.cookies["session"]
    for forged in ("", "x", cookie[:-30], cookie[:128], "0" * 128 + cookie[128:]):
        browser.reset()
        browser.set_cookie("session", forged)
        browser.get("/account", status=303)


def test_a_session_cookie_signed_with_another_key_is_ignored(
    browser: webtest.TestApp, open_browser: OpenBrowser, ini: MakeIni
) -> None:
    register(browser)
    for secret_key, status in [(SECRET_KEY, 200), ("another-key-quite-long-enough-as-well", 303)]:
        other = open_browser(hello_login.main({}, **ini(secret_key=secret_key)))
        other.set_cookie("session", browser.cookies["session"])
        other.get("/account", status=status)


NEWER_KEY = "newer-key-quite-long-enough-as-well"


@pytest.mark.parametrize("separator", [" ", ",", ",\n"])
def test_a_newer_key_logs_nobody_out_and_refuses_no_form(
    browser: webtest.TestApp, open_browser: OpenBrowser, ini: MakeIni, separator: str
) -> None:
    register(browser)
    form_token = csrf_token(browser)
    keys = f"{NEWER_KEY}{separator}{SECRET_KEY}"
    other = open_browser(hello_login.main({}, **ini(secret_key=keys)))
    other.set_cookie("session", browser.cookies["session"])
    assert csrf_token(other) != form_token
    other.post("/logout", {"csrf_token": "0" * 64}, status=400)
    other.post("/logout", {"csrf_token": form_token}, status=303)
    assert other.get("/account", status=303)


def test_the_newest_key_signs_new_cookies(open_browser: OpenBrowser, ini: MakeIni) -> None:
    both = open_browser(hello_login.main({}, **ini(secret_key=f"{NEWER_KEY} {SECRET_KEY}")))
    register(both)
    for key, status in [(NEWER_KEY, 200), (SECRET_KEY, 303)]:
        alone = open_browser(hello_login.main({}, **ini(secret_key=key)))
        alone.set_cookie("session", both.cookies["session"])
        alone.get("/account", status=status)


def test_a_device_stays_known_when_a_newer_key_is_added(
    browser: webtest.TestApp, open_browser: OpenBrowser, ini: MakeIni
) -> None:
    register(browser)
    other = open_browser(hello_login.main({}, **ini(secret_key=f"{NEWER_KEY} {SECRET_KEY}")))
    other.set_cookie("device", browser.cookies["device"])
    log_in(other)
    cookies = [each.cookies["device"] for each in (browser, other)]
    assert cookies[0] != cookies[1]
    # After a signature of 128 digits and a time of 8, the cookie names the account and the device.
    assert len({cookie[136:].partition("!")[0] for cookie in cookies}) == 1


def test_the_session_cookie_outlives_the_browser_only_with_remember_me(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    log_out(browser)
    assert "Max-Age" not in cookies_set(log_in(browser))["session"]
    log_out(browser)
    assert "Max-Age=2592000" in cookies_set(log_in(browser, remember=True))["session"]


@pytest.mark.parametrize(("remember", "hours"), [(False, (2, 24)), (True, (336, 720))])
def test_a_remembered_session_has_longer_limits(
    browser: webtest.TestApp, db: Connection, remember: bool, hours: tuple[int, int]
) -> None:
    register(browser)
    log_out(browser)
    log_in(browser, remember=remember)
    with db.cursor() as cursor:
        cursor.execute(
            """
            SELECT extract(epoch FROM idle_limit) / 3600,
                   extract(epoch FROM expires_at - created_at) / 3600
              FROM sessions
            """
        )
        assert cursor.fetchone() == hours


def test_cookies_in_production_are_limited_to_https_and_this_host(
    production_browser: webtest.TestApp,
) -> None:
    response = register(production_browser)
    assert all(len(header) < 4096 for header in response.headers.getall("Set-Cookie"))
    cookies = cookies_set(response)
    device = cookies.pop("__Host-device")
    assert device.startswith("Max-Age=31536000; Path=/; expires=")
    assert device.endswith("; secure; HttpOnly; SameSite=Lax")
    flash = cookies.pop("__Host-flash")
    assert flash.startswith("Max-Age=60; Path=/; expires=")
    assert flash.endswith("; secure; HttpOnly; SameSite=Lax")
    assert cookies == {
        "__Host-session": "Path=/; secure; HttpOnly; SameSite=Lax",
        "__Host-csrf_token": "Path=/; secure; HttpOnly; SameSite=Lax",
    }
    ended = cookies_set(log_out(production_browser))["__Host-session"]
    assert "Max-Age=0" in ended
    assert "Domain" not in ended
    assert "secure" in ended


def test_cookies_in_development_work_without_https(browser: webtest.TestApp) -> None:
    cookies = cookies_set(register(browser))
    assert "secure" not in cookies.pop("device") + cookies.pop("flash")
    assert cookies == {
        "session": "Path=/; HttpOnly; SameSite=Lax",
        "csrf_token": "Path=/; HttpOnly; SameSite=Lax",
    }


@pytest.mark.parametrize("token", ["", "x", "\xff", "0" * 43])
def test_a_form_with_a_wrong_csrf_token_is_refused(browser: webtest.TestApp, token: str) -> None:
    browser.get("/login")
    browser.post("/login", {"csrf_token": token}, status=400)
    browser.post("/register", {"csrf_token": token}, status=400)
    register(browser)
    browser.post("/logout", {"csrf_token": token}, status=400)
    assert "Ada" in browser.get("/account")


def test_a_csrf_token_in_the_url_is_ignored(browser: webtest.TestApp) -> None:
    register(browser)
    browser.post(f"/logout?csrf_token={csrf_token(browser)}", status=400)


def test_the_csrf_token_is_renewed_at_login_and_at_logout(browser: webtest.TestApp) -> None:
    browser.get("/login")
    tokens = [browser.cookies["csrf_token"]]
    register(browser)
    tokens += [browser.cookies["csrf_token"], csrf_token(browser)]
    log_out(browser)
    tokens.append(browser.cookies["csrf_token"])
    assert len(set(tokens)) == 4
    assert [len(token) for token in tokens] == [43, 43, 64, 43]  # in base64, or hexadecimal


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
def test_a_form_from_another_site_is_refused_even_with_the_csrf_token(
    production_browser: webtest.TestApp, origin: str
) -> None:
    register(production_browser)
    form = production_browser.get("/").forms[0]
    form.submit(headers={"Origin": origin}, status=400)
    assert "Ada" in production_browser.get("/account")


def test_a_second_logout_redirects_like_the_first(browser: webtest.TestApp) -> None:
    register(browser)
    form = browser.get("/").forms[0]
    first = form.submit(status=303)
    again = form.submit(status=303)
    assert again.location == first.location == "http://localhost/"
    assert again.follow().html.find(role="status").get_text() == "You are logged out."


@pytest.mark.parametrize("page", ["/login", "/register"])
def test_a_login_or_registration_form_redirects_if_another_tab_has_logged_in(
    browser: webtest.TestApp, page: str
) -> None:
    other_tab = browser.get(f"{page}?next=/account/profile").forms[0]
    register(browser)
    assert other_tab.submit(status=303).location == "http://localhost/account/profile"
    other_tab["next"] = "https://evil.example/"
    assert other_tab.submit(status=303).location == "http://localhost/account"


@pytest.mark.parametrize("sent", ["session={}", "x=1 session={}", "x=1,session={}", "session ={}"])
def test_a_session_cookie_is_accepted_only_under_its_exact_name(
    browser: webtest.TestApp, open_browser: OpenBrowser, sent: str
) -> None:
    register(browser)
    header = sent.format(browser.cookies["session"])
    status = 200 if sent == "session={}" else 303
    open_browser(HTTP_COOKIE=header).get("/account", status=status)


def test_a_cookie_planted_by_a_sibling_subdomain_does_not_replace_the_session(
    browser: webtest.TestApp, open_browser: OpenBrowser
) -> None:
    attacker = open_browser()
    register(browser)
    register(attacker, name="Eve", email="eve@example.com")
    for planted in ("x=1 session={}", "x=1,session={}", "session={}"):
        own, evil = browser.cookies["session"], planted.format(attacker.cookies["session"])
        victim = open_browser(HTTP_COOKIE=f"session={own}; {evil}")
        assert "Ada" in victim.get("/account")


def test_a_planted_csrf_cookie_does_not_pass_the_check_of_a_session(
    browser: webtest.TestApp,
) -> None:
    register(browser)
    browser.set_cookie("csrf_token", "planted")
    browser.post("/logout", {"csrf_token": "planted"}, status=400)
    assert "Ada" in browser.get("/account")
    log_out(browser)


def test_a_forged_session_cookie_does_not_change_the_csrf_token(
    browser: webtest.TestApp,
) -> None:
    browser.set_cookie("session", "forged")
    form = browser.get("/login").forms[0]
    assert form["csrf_token"].value == browser.cookies["csrf_token"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 400),
        ({"Sec-Fetch-Site": "cross-site"}, 400),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, 400),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 400),
        ({}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Origin": "http://LOCALHOST:80"}, 303),
        ({"Origin": "null"}, 400),
        ({"Origin": "http://localhost:8080"}, 400),
        ({"Origin": "http://evil.localhost"}, 400),
        ({"Origin": "http://localhost.evil.example"}, 400),
    ],
    ids=str,
)
def test_a_form_is_accepted_only_from_a_page_of_this_origin(
    browser: webtest.TestApp, headers: dict[str, str], status: int
) -> None:
    register(browser)
    browser.get("/").forms[0].submit(headers=headers, status=status)
    browser.get("/account", status=200 if status == 400 else 303)


def test_a_logout_clears_the_browsers_cache_and_storage(browser: webtest.TestApp) -> None:
    register(browser)
    assert log_out(browser).headers["Clear-Site-Data"] == '"cache", "storage"'


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/login", 200),
        ("/account", 303),
        ("/nowhere", 404),
        ("/%FF", 400),
        ("/logout", 405),
        ("/healthz", 200),
        (STYLESHEET, 200),
    ],
)
def test_every_response_has_the_security_headers(
    browser: webtest.TestApp, path: str, status: int
) -> None:
    headers = browser.get(path, status=status).headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert "default-src 'none'" in policy
    assert {"script-src 'self'", "require-trusted-types-for 'script'"} <= set(policy)
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("Access-Control-")]
    assert "Strict-Transport-Security" not in headers
    kept = "max-age=31536000" if path == STYLESHEET else "no-store"
    assert headers["Cache-Control"] == kept


def test_production_sends_hsts_even_without_a_trusted_proxy(
    open_browser: OpenBrowser, production_app: Any
) -> None:
    for scheme in ("http", "https"):
        browser = open_browser(production_app, **{"wsgi.url_scheme": scheme})
        for path in ("/", "/nowhere", STYLESHEET):
            headers = browser.get(path, status="*").headers
            assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_pages_have_no_inline_scripts_or_styles_and_load_only_our_own_files(
    browser: webtest.TestApp,
) -> None:
    pages = [browser.get(path, status="*") for path in ("/", "/login", "/register", "/nowhere")]
    register(browser)
    paths = ("/account", "/account/passkeys", "/account/passkeys/add")
    pages += [browser.get(path) for path in paths]
    for html in (page.html for page in pages):
        loading = html(["img", "link", "iframe", "script"])
        loaded = [each.get("src") or each["href"] for each in loading]
        assert all(each.startswith(f"/{STATIC}/") for each in loaded)
        assert not any(each.get_text() for each in html("script"))
        assert not html("style")
        assert not html.find_all(style=True)


def test_no_page_and_no_redirect_contains_a_cookie_value(browser: webtest.TestApp) -> None:
    pages = [register(browser), browser.get("/account"), browser.get("/account/password")]
    for page in pages:
        for name in ("session", "device"):
            assert browser.cookies[name][:128] not in page.text + page.headers.get("Location", "")


@pytest.mark.parametrize(
    "path",
    [
        "profile",
        "password",
        "sessions/end",
        "delete",
        "confirm",
        "totp",
        "totp/remove",
        "recovery-codes",
        "passkeys/add",
        "passkeys/decline",
        "passkeys/x/name",
        "passkeys/x/remove",
    ],
)
def test_every_change_of_an_account_needs_the_csrf_token(
    browser: webtest.TestApp, path: str
) -> None:
    register(browser)
    browser.post(f"/account/{path}", {"csrf_token": "0" * 43}, status=400)
    browser.put(f"/account/{path}", status=405)


def test_the_json_greeting_does_not_query_the_database(
    open_browser: OpenBrowser, browser: webtest.TestApp, db: Connection
) -> None:
    register(browser)
    program = open_browser(HTTP_ACCEPT="application/json")
    program.set_cookie("session", browser.cookies["session"])
    db.close()
    program.get("/")
    program.get("/healthz")
