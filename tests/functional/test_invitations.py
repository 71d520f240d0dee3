"""If registration is closed, people need an invitation of the operator to register."""

from typing import Any

import pytest
import webtest

import hello_login
from hello_login.scripts import manage_accounts
from tests.conftest import ROOT, SECRET_KEY, MakeIni, OpenBrowser
from tests.functional.mail_site import MAIL_FROM, MailSite, fill_in, use
from tests.people import EMAIL, PASSWORD, log_in, log_out, register

HEADING = "Registration is by invitation"
CONTACT = "https://example.org/help"
EXPIRED = "This link no longer works"


@pytest.fixture
def closed(open_browser: OpenBrowser, ini: MakeIni) -> webtest.TestApp:
    """Return a browser of a site without mail that takes no registrations."""
    return open_browser(hello_login.main({}, **ini(registration="closed", contact=CONTACT)))


@pytest.fixture
def closed_site(site: MailSite, ini: MakeIni) -> Any:
    """Return the application of the mail site as it is after a restart with REGISTRATION=closed."""
    mail = {"mail_url": f"file:{site.folder}", "mail_from": MAIL_FROM}
    place = {"database_url": site.url, "site_url": "http://localhost"}
    return hello_login.main({}, **ini(registration="closed", **place, **mail))


@pytest.fixture
def invite(
    site: MailSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Return a function that invites Ada, and returns the path of her link."""
    monkeypatch.setenv("DATABASE_URL", site.url)
    monkeypatch.setenv("SECRET_KEY", SECRET_KEY)

    def make_link() -> str:
        manage_accounts.main([str(ROOT / "production.ini"), "invite", EMAIL])
        return capsys.readouterr().out.splitlines()[0]

    return make_link


def csrf_token(browser: webtest.TestApp) -> str:
    """Return the CSRF token of a browser that is not logged in."""
    return str(browser.get("/login").forms[0]["csrf_token"].value)


def links_to_register(page: Any) -> list[str]:
    return [each["href"] for each in page.html("a") if "/register" in each["href"]]


def test_no_page_leads_to_a_closed_registration(
    closed: webtest.TestApp, browser: webtest.TestApp
) -> None:
    for path, status, links in [("/", 200, 2), ("/login", 200, 2), ("/link/x", 404, 1)]:
        assert len(links_to_register(browser.get(path, status=status))) == links
        assert links_to_register(closed.get(path, status=status)) == []
    assert HEADING in closed.get("/")
    assert links_to_register(closed.get("/nothing", status=404)) == []
    assert "Log in to Hello Login, or register." in browser.get("/")
    assert "Log in to Hello Login." in closed.get("/")


def test_a_closed_registration_says_whom_to_ask_and_takes_no_form(
    closed: webtest.TestApp, open_browser: OpenBrowser, ini: MakeIni
) -> None:
    page = closed.get("/register", status=403)
    assert page.html.h1.text == HEADING
    assert [each["href"] for each in page.html.main("a")] == [CONTACT, "/login"]
    typed = {"name": "Ada", "email": EMAIL, "password": PASSWORD, "confirm": PASSWORD}
    form = {"csrf_token": csrf_token(closed), **typed}
    assert closed.post("/register", form, status=403).html.h1.text == HEADING
    log_in(closed, status=422)
    without_contact = open_browser(hello_login.main({}, **ini(registration="closed")))
    assert "Ask the operator for one." in without_contact.get("/register", status=403)


def test_a_user_of_a_closed_site_is_led_on_from_the_registration(
    closed: webtest.TestApp, browser: webtest.TestApp
) -> None:
    register(browser)
    log_in(closed)
    assert closed.get("/register", status=303).location == "http://localhost/account"


def test_a_closed_registration_sends_no_mail(site: MailSite, closed_site: Any) -> None:
    visitor = webtest.TestApp(closed_site, extra_environ=site.open_browser().extra_environ)
    assert visitor.get("/register", status=403).html.h1.text == HEADING
    form = {"csrf_token": csrf_token(visitor), "email": EMAIL}
    visitor.post("/register", form, status=403)
    assert links_to_register(visitor.get("/link/x", status=404)) == []
    assert site.execute("SELECT FROM mails") == []


def test_links_from_before_the_closing_stop_working(site: MailSite, closed_site: Any) -> None:
    site.ask("/register")
    link = site.deliver_link()
    browser = site.open_browser()
    form = fill_in(browser, link, name="Ada", password=PASSWORD)
    site.app = browser.app = closed_site
    assert EXPIRED in site.open_browser().get(link, status=404)
    assert EXPIRED in form.submit(status=404)
    assert site.execute("SELECT FROM users") == []


def test_mails_that_wait_at_the_closing_are_not_sent(site: MailSite, closed_site: Any) -> None:
    site.ask("/register")
    site.ask("/register", "grace@example.com")
    site.app = closed_site
    assert site.deliver() == []
    assert site.execute("SELECT FROM mails") == []
    assert site.execute("SELECT FROM tokens") == []


@pytest.mark.parametrize("registration", ["open", "closed"])
@pytest.mark.parametrize("mail", [False, True])
def test_an_invitation_registers_an_account_with_its_address(
    site: MailSite, invite: Any, ini: MakeIni, registration: str, mail: bool
) -> None:
    more = {"mail_url": f"file:{site.folder}", "mail_from": MAIL_FROM} if mail else {}
    place = {"database_url": site.url, "site_url": "http://localhost", "after_login": "/notes"}
    site.app = hello_login.main({}, **ini(registration=registration, **place, **more))
    link = invite()
    browser = site.open_browser()
    page = browser.get(link)
    assert page.html.h1.text == "Register"
    assert page.html.main.strong.text == EMAIL
    use(browser, link, status=422, name="Ada", password="short")
    answer = use(browser, link, name="Ada", password=PASSWORD)
    assert answer.location == "http://localhost/notes"
    assert "Welcome!" in browser.get("/account")
    assert EXPIRED in site.open_browser().get(link, status=404)
    # The operator has handed the link over, so no mail has proven the address.
    assert site.execute("SELECT email, confirmed_at FROM users") == [(EMAIL, None)]
    log_out(browser)
    log_in(browser)


def test_an_invitation_works_once_within_7_days_and_not_after_its_address_is_taken(
    site: MailSite, invite: Any
) -> None:
    first, second = invite(), invite()
    lifetime = "SELECT DISTINCT purpose, user_id, expires_at - now() > '167 hours' FROM tokens"
    assert site.execute(lifetime) == [("invite", None, True)]
    use(site.open_browser(), first, name="Ada", password=PASSWORD)
    assert EXPIRED in use(
        site.open_browser(), second, status=404, name="A", password="staple battery horse"
    )
    log_in(site.open_browser())
    site.execute("UPDATE tokens SET expires_at = now() - interval '1 second'")
    assert EXPIRED in site.open_browser().get(second, status=404)
