"""What is wrong with a form, where to begin with it, and where it leads."""

from typing import Any

import pytest
from webob.multidict import MultiDict

from hello_login.forms import LoginForm, RegisterForm, local_path
from hello_login.passwords import Passwords
from tests.people import EMAIL, PASSWORD


def make_registration(passwords: Passwords, **typed: str) -> RegisterForm:
    values = {"name": "Ada", "email": EMAIL, "password": PASSWORD, "confirm": PASSWORD, **typed}
    form = RegisterForm(MultiDict(values), passwords)
    form.validate()
    return form


@pytest.mark.parametrize(
    ("typed", "focus"),
    [
        ({}, "name"),
        ({"email": "ada", "confirm": "x"}, "email"),
        ({"password": "short", "confirm": "short"}, "password"),
    ],
)
def test_a_form_begins_with_its_first_field_or_the_first_that_is_wrong(
    passwords: Passwords, typed: dict[str, str], focus: str
) -> None:
    assert make_registration(passwords, **typed).focus() == focus


def test_everything_that_is_wrong_is_told_with_the_field_where_it_can_be_mended(
    passwords: Passwords,
) -> None:
    form = make_registration(passwords, name="", password="short")
    assert [field for field, _ in form.problems()] == ["name", "password", "confirm"]
    assert form.problems()[0] == ("name", "Type the name to greet you by.")
    assert make_registration(passwords).problems() == []


def test_a_form_that_is_refused_as_a_whole_begins_with_the_password() -> None:
    form: Any = LoginForm(MultiDict(email=EMAIL, password=PASSWORD))
    form.form_errors = ["Wrong."]
    assert form.focus() == "password"
    assert form.problems() == [("password", "Wrong.")]


@pytest.mark.parametrize("target", ["/", "/account", "/account?tab=1#top", "/~ada/%C3%BC", "/a//b"])
def test_a_path_of_this_site_may_be_gone_on_to(target: str) -> None:
    assert local_path(target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "account",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/account\r\nSet-Cookie: a=b",
        "\t//evil.example",
        " //evil.example",
        "/account\x7f",
        "/account\n",
        "/a b",
        "/\xfc",
        "/\u65e5\u672c",
        "/\u2028",
    ],
)
def test_nothing_else_may_be_gone_on_to(target: str | None) -> None:
    assert local_path(target) is None
