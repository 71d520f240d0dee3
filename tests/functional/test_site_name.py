"""SITE_NAME is shown on pages, in mails, in authenticator apps and in lists of passkeys."""

import json
from typing import Any

import pyotp
import pytest
import segno
import webtest

import hello_login
from tests.conftest import MakeIni, OpenBrowser
from tests.functional.mail_site import MAIL_FROM, MailSite, text_of
from tests.functional.software_key import options_on
from tests.people import EMAIL, error_of, register

NAME = "Åsa's <Notes> & more"
SITE = "http://login.example.org"


@pytest.fixture
def named(open_browser: OpenBrowser, ini: MakeIni) -> webtest.TestApp:
    """Return a browser of a site with a name of its own."""
    app: Any = hello_login.main({}, **ini(site_name=NAME, site_url=SITE))
    return open_browser(app, HTTP_HOST="login.example.org")


def test_every_page_has_the_name_in_its_title_and_its_head(named: webtest.TestApp) -> None:
    for page in (named.get("/"), named.get("/login"), named.get("/nothing", status=404)):
        heading = page.html.h1.text
        assert page.html.title.text == f"{heading} · {NAME}"
        assert page.html.select_one("header .brand").text.strip() == NAME
        assert "Hello Login" not in page
    assert NAME in named.get("/").html.main.text


def test_a_list_of_passkeys_has_the_name(named: webtest.TestApp) -> None:
    register(named)
    options = json.loads(options_on(named.get("/account/passkeys/add")))
    assert options["rp"] == {"id": "login.example.org", "name": NAME}


def test_an_authenticator_app_shows_the_name(
    named: webtest.TestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    uris: list[str] = []
    make = segno.make

    def spy(uri: str, **more: Any) -> Any:
        uris.append(uri)
        return make(uri, **more)

    monkeypatch.setattr(segno, "make", spy)
    register(named)
    named.get("/account/totp")
    (uri,) = uris
    app: Any = pyotp.parse_uri(uri)
    assert (app.issuer, app.name) == (NAME, EMAIL)


@pytest.mark.parametrize(
    "password", ["Åsa's <Notes>12", "notes & more 7x", "login.example.org", "gro.elpmaxe.nigol"]
)
def test_a_password_made_of_the_name_or_the_host_is_refused(
    named: webtest.TestApp, password: str
) -> None:
    page = register(named, name="Grace", email="g@example.com", password=password, status=422)
    assert "this site's name" in error_of(page, "password")


def test_the_name_of_another_site_does_not_count_as_predictable(browser: webtest.TestApp) -> None:
    register(browser, password="Åsa's <Notes>12")


def test_a_mail_names_the_site_and_its_url(site: MailSite, ini: MakeIni) -> None:
    mail = {"mail_url": f"file:{site.folder}", "mail_from": MAIL_FROM, "site_name": NAME}
    site.app = hello_login.main(
        {}, **ini(database_url=site.url, site_url="http://localhost", **mail)
    )
    site.ask("/register")
    (message,) = site.deliver()
    first, *_, last = text_of(message).rstrip().splitlines()
    assert first == f"Somebody, probably you, wants to register at {NAME} with this address."
    assert last == f"{NAME}, http://localhost"
    assert message["Subject"] == "Confirm your address"
