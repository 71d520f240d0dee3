"""A real server accepts the largest form with valid values, and refuses a larger one."""

import html
import random
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from hello_login.auth.passwords import MAX_LENGTH
from hello_login.auth.webauthn import MAX_CREDENTIAL_LENGTH
from hello_login.web.forms import MAX_NAME_LENGTH, MAX_NEXT_LENGTH
from tests.conftest import ROOT, make_folder
from tests.functional.servers import QUICK, Database, Person, Server, send_raw
from tests.functional.software_key import SoftwareKey

pytestmark = pytest.mark.slow

LARGEST = 40_959
"""Bytes.  waitress refuses a body of max_request_body_size or more."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Yield a server with production.ini."""
    with make_folder() as folder:
        database = Database(folder)
        started = Server(tmp_path, database.url, **QUICK)
        try:
            started.start()
            yield started
        finally:
            started.stop()
            database.stop()


def make_text(length: int, seed: int) -> str:
    """Return random characters of 4 bytes each in UTF-8, and so 12 in an encoded form."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    return "".join(chr(chosen.randrange(0x20000, 0x2A6DF)) for _ in range(length))


def test_the_largest_forms_are_accepted(server: Server) -> None:
    person = Person(server.port)
    old, new = (make_text(MAX_LENGTH, seed) for seed in range(2))
    domain = ".".join(["a" * 61] * 3) + ".org"
    email = f"{make_text(16, 2)}@{domain}"  # 254 octets; the domain is not encoded
    register = {
        "name": make_text(MAX_NAME_LENGTH, 3),
        "email": email,
        "password": old,
        "confirm": old,
        "next": "/" + "%" * (MAX_NEXT_LENGTH - 1),
    }
    change = {"current": old, "password": new, "confirm": new}
    person.ask("/register")
    assert person.ask("/register", register)[0] == 303
    assert person.ask("/account/password", change)[0] == 303
    sizes = [len(urlencode({"csrf_token": "t" * 43, **form})) for form in (register, change)]
    assert 0.9 * LARGEST < max(sizes) <= LARGEST
    assert person.log_in(email, new)[0] == 303


def options_in(page: tuple[int, int, str]) -> str:
    """Return the options that the page hands to the browser."""
    found = re.search('data-options="([^"]*)"', page[2])
    assert found is not None
    return html.unescape(found[1])


def lengthen(credential: str) -> str:
    """Return the browser's answer with one more field, so that it has the largest length."""
    missing = MAX_CREDENTIAL_LENGTH - len(credential) - len(', "x": ""')
    return f'{credential[:-1]}, "x": "{"a" * missing}"}}'


def test_the_largest_forms_with_a_passkey_are_accepted(server: Server) -> None:
    person, key, origin = Person(server.port), SoftwareKey(), f"http://localhost:{server.port}"
    person.ask("/register")
    person.register()
    page = person.ask("/account/passkeys/add")
    add = {"credential": lengthen(key.create(options_in(page), origin=origin))}
    assert person.ask("/account/passkeys/add", add)[0] == 200
    person.log_out()
    # A browser may have filled in the password before the passkey was chosen.
    login = {
        "credential": lengthen(key.get(options_in(person.ask("/login")), origin=origin)),
        "email": f"{make_text(16, 2)}@example.org",
        "password": make_text(MAX_LENGTH, 0),
        "next": "/" + "%" * (MAX_NEXT_LENGTH - 1),
        "remember": "y",
    }
    assert len(urlencode({"csrf_token": "t" * 43, **login})) <= LARGEST
    longer = {**login, "credential": login["credential"] + " "}
    assert person.ask("/login", longer)[0] == 422
    assert person.ask("/login", login)[0] == 303


def test_a_larger_form_is_refused_by_its_content_length(server: Server) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert send_raw(server.port, head % (LARGEST + 1)).split()[1] == b"413"
    assert send_raw(server.port, head % LARGEST + b"a" * LARGEST).split()[1] == b"400"


@pytest.mark.parametrize("name", ["development.ini", "production.ini"])
def test_both_configurations_take_forms_of_the_same_size(name: str) -> None:
    assert f"max_request_body_size = {LARGEST + 1}\n" in (ROOT / name).read_text()
