"""The problems of a form, its focus, and its redirect target."""

import encodings.punycode
import itertools
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
import webtest
from webob.multidict import MultiDict

from hello_login.auth.passwords import Passwords
from hello_login.auth.predictable import count_unpredictable
from hello_login.web.forms import (
    CodeForm,
    ConfirmForm,
    Form,
    LoginForm,
    NameAndEmailForm,
    PasskeyNameForm,
    PasswordForm,
    ReauthenticateForm,
    RegisterForm,
    TotpForm,
    safe_local_path,
)
from tests.functional.software_key import send_credential
from tests.people import EMAIL, PASSWORD, form_error_of


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
        ({"name": ""}, "name"),
    ],
)
def test_a_form_focuses_its_first_field_or_the_first_wrong_one(
    passwords: Passwords, typed: dict[str, str], focus: str
) -> None:
    assert make_registration(passwords, **typed).focus_id() == focus


def test_a_form_focuses_the_first_field_to_fill_in(passwords: Passwords) -> None:
    assert RegisterForm(MultiDict(), passwords).focus_id() == "name"
    assert RegisterForm(MultiDict(name="Ada"), passwords).focus_id() == "email"
    assert LoginForm(MultiDict(email=EMAIL)).focus_id() == "password"


def test_every_problem_is_listed_with_its_field(
    passwords: Passwords,
) -> None:
    form = make_registration(passwords, name="", password="short")
    assert [field for field, _ in form.field_problems()] == ["name", "password", "confirm"]
    assert form.field_problems()[0] == ("name", "Type your name.")
    assert make_registration(passwords).field_problems() == []


def test_a_login_form_with_an_error_of_no_field_focuses_the_password() -> None:
    form: Any = LoginForm(MultiDict(email=EMAIL, password=PASSWORD))
    form.form_errors = ["Wrong."]
    assert form.focus_id() == "password"
    assert form.field_problems() == []


def test_a_form_without_fields_focuses_the_content_of_the_page() -> None:
    form: Any = Form(MultiDict())
    form.form_errors = ["Wait."]
    assert form.focus_id() == "content"
    assert form.field_problems() == []


def test_the_error_of_a_refused_passkey_describes_the_button_that_uses_one(
    browser: webtest.TestApp,
) -> None:
    page = send_credential(browser.get("/login"), "not JSON", status=422)
    assert form_error_of(page).startswith("Your browser sent something that we can't read")
    button = page.html.find(autofocus=True)
    assert (button.name, button.get_text()) == ("button", "Log in with a passkey")
    assert button["aria-describedby"] == "form-error"


@pytest.mark.parametrize("target", ["/", "/account", "/account?tab=1#top", "/~ada/%C3%BC", "/a//b"])
def test_a_local_path_is_a_safe_redirect_target(target: str) -> None:
    assert safe_local_path(target) == target


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
def test_any_other_redirect_target_is_refused(target: str | None) -> None:
    assert safe_local_path(target) is None


def test_a_redirect_target_has_at_most_2000_characters() -> None:
    assert safe_local_path("/" + "a" * 1999)
    assert safe_local_path("/" + "a" * 2000) is None


MARKS = "a" + "\u0300" * 6700 + "\u0316" * 6700 + "@example.org"
"""As many combining marks as fit into a body.  Normalizing them takes quadratic time."""


def count_steps(text: str) -> int:
    """Return the number of steps that an insertion sort of the text's combining marks takes."""
    runs = itertools.groupby(text, key=lambda character: unicodedata.combining(character) != 0)
    return sum(len(list(run)) ** 2 for marks, run in runs if marks)


@pytest.fixture
def normalized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the texts that any library normalizes."""
    texts: list[str] = []
    normalize = unicodedata.normalize

    def spy(form: Any, text: str) -> str:
        texts.append(text)
        return normalize(form, text)

    monkeypatch.setattr("unicodedata.normalize", spy)
    return texts


def ask_for_code(typed: Any, *, has_app: bool = True, **query: str) -> CodeForm:
    """Return the form for a code, on a page with this query."""
    return CodeForm(typed, query, has_app=has_app)


def ask_for_confirmation(typed: Any, *, has_app: bool = True, **query: str) -> ConfirmForm:
    """Return the form for the password and a code, on a page with this query."""
    return ConfirmForm(typed, query, has_second_factor=True, has_app=has_app)


def ask_for_password(typed: Any) -> ConfirmForm:
    """Return the form for the password alone."""
    return ConfirmForm(typed, {}, has_second_factor=False, has_app=False)


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (
            lambda typed, _: LoginForm(typed),
            {"email", "password", "remember", "next", "credential"},
        ),
        (lambda typed, _: ReauthenticateForm(typed), {"current"}),
        (
            lambda typed, _: ask_for_confirmation(typed),
            {"current", "code", "next", "credential"},
        ),
        (lambda typed, _: ask_for_password(typed), {"current", "next", "credential"}),
        (lambda typed, _: ask_for_code(typed), {"code", "next", "credential"}),
        (lambda typed, _: PasskeyNameForm(typed), {"name"}),
        (lambda typed, _: TotpForm(typed), {"setup", "code"}),
        (lambda typed, _: NameAndEmailForm(typed), {"name", "email"}),
        (RegisterForm, {"name", "email", "password", "confirm", "next"}),
        (PasswordForm, {"current", "password", "confirm"}),
    ],
)
def test_no_form_field_is_normalized_at_unlimited_length(
    passwords: Passwords,
    normalized: list[str],
    make: Callable[[Any, Passwords], Form],
    fields: set[str],
) -> None:
    assert {field.id for field in make(MultiDict(), passwords)} == fields
    for field in fields:
        typed = {"name": "Ada", "email": EMAIL, "password": PASSWORD, field: MARKS}
        form = make(MultiDict(typed), passwords)
        if form.validate() and isinstance(form, LoginForm):
            form.normalized_email()
        for password in ("password", "current"):
            passwords.verify(form.data.get(password) or "", None)
    assert max(map(len, normalized), default=0) <= 4096
    assert max(map(count_steps, normalized), default=0) <= 400**2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_has_at_most_100_characters_in_every_unicode_form(
    passwords: Passwords, form: Any
) -> None:
    longest = "\N{GREEK SMALL LETTER ALPHA WITH PSILI AND VARIA AND YPOGEGRAMMENI}" * 100
    typed = unicodedata.normalize(form, longest)
    accepted = make_registration(passwords, name=typed)
    assert (accepted.field_problems(), accepted.name.data) == ([], longest)
    too_long = make_registration(passwords, name=f"{typed}a")
    assert too_long.field_problems() == [("name", "Use no more than 100 characters.")]


@pytest.mark.parametrize(
    ("field", "text", "max_length"), [("name", "A", 100), ("email", "ada@example.com", 254)]
)
def test_a_text_that_is_too_long_is_reported_once_and_kept_in_the_form(
    passwords: Passwords, field: str, text: str, max_length: int
) -> None:
    form = make_registration(passwords, **{field: text * 1000})
    assert form.field_problems() == [(field, f"Use no more than {max_length} characters.")]
    assert form.data[field] == text * 1000


def test_a_password_is_compared_with_the_name_and_address_only_up_to_their_limits(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def spy(password: str, personal: tuple[str, ...], site: tuple[str, ...]) -> tuple[int, str]:
        lengths.append([len(text) for text in personal])
        return count_unpredictable(password, personal, site)

    monkeypatch.setattr("hello_login.auth.passwords.count_unpredictable", spy)
    form = make_registration(passwords, name="A" * 15_000, email="a" * 15_000)
    assert [field for field, _ in form.field_problems()] == ["name", "email"]
    assert lengths == [[100, 254]]


def test_an_address_has_at_most_254_characters(passwords: Passwords) -> None:
    domain = ".".join(["a" * 61] * 3) + ".org"
    assert make_registration(passwords, email=f"{'a' * 64}@{domain}").field_problems() == []
    too_long = make_registration(passwords, email=f" {'a' * 64}@{domain}")
    assert too_long.field_problems() == [("email", "Use no more than 254 characters.")]


@pytest.mark.parametrize("dot", [".", "\u3002"])
def test_no_domain_label_longer_than_63_characters_is_encoded(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch, dot: str
) -> None:
    lengths = []
    encode = encodings.punycode.punycode_encode

    def spy(label: str) -> bytes:
        lengths.append(len(label))
        return encode(label)

    monkeypatch.setattr("encodings.punycode.punycode_encode", spy)
    kanji = "".join(map(chr, range(0x4E00, 0x4E00 + 240)))
    accepted = dot.join([kanji[:15], kanji[15:30], "org"])
    assert make_registration(passwords, email=f"ada@{accepted}").field_problems() == []
    too_long = make_registration(passwords, email=f"ada@{kanji}.org")
    assert too_long.email.errors[0].startswith("Use no more than 63 characters between two dots")
    assert lengths
    assert max(lengths) <= 63


@pytest.mark.parametrize(
    "name",
    [
        "\u200b",  # zero width space
        "\u200d",  # zero width joiner
        "\u00ad",  # soft hyphen
        "\ufeff",  # zero width no-break space
        "\u2060\u2061",
        "\u3164",  # Hangul filler
        "\u115f\u1160",
        "\uffa0",
        "\u2800",  # Braille blank
        "\u180b\ufe0f",  # variation selectors
        "\u034f",  # combining grapheme joiner
        "\u0301",  # an accent on nothing
        " \u3164 \u3164 ",
        "\U000e0041",  # a tag
    ],
)
def test_an_invisible_name_is_refused(passwords: Passwords, name: str) -> None:
    problems = make_registration(passwords, name=name).field_problems()
    assert problems == [("name", "This name shows nothing: use a letter, a digit or a symbol.")]


@pytest.mark.parametrize(
    "character",
    [
        *"\u202a\u202b\u202c\u202d\u202e",  # direction overrides
        *"\u2066\u2067\u2068\u2069",  # direction isolates
        *"\u200e\u200f\u061c",  # direction marks
        *"\u200b\u00ad\ufeff\u2060\U000e0041",
        *"\u2028\u2029\r\n\t\x00\x7f\x85",
    ],
)
def test_a_name_with_line_breaks_or_direction_marks_is_refused(
    passwords: Passwords, character: str
) -> None:
    problems = make_registration(passwords, name=f"Ada{character}ecalevoL").field_problems()
    message = "Use one line, without control characters or invisible ones."
    assert problems == [("name", message)]


@pytest.mark.parametrize(
    "name",
    [
        "Ada Lovelace",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",  # Persian, with a zero width non-joiner
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala, with a zero width joiner
        "\U0001f469\u200d\U0001f52c",  # an emoji made of two
        "\u2764\ufe0f",
        "\u05d0\u05d3\u05d4",  # Hebrew, from right to left
        "\u0e40\u0e2d\u0e14\u0e49\u0e32",  # Thai, with combining marks
        "x\u0323\u0301",  # no single character has both marks
        "\uc5d0\uc774\ub2e4",
        "7",
        "*",
    ],
)
def test_a_name_of_any_script_is_accepted(passwords: Passwords, name: str) -> None:
    accepted = make_registration(passwords, name=name)
    assert (accepted.field_problems(), accepted.name.data) == ([], name)


RECOVERY_CODE = "ABCDEFGHIJKLMNOPQRST2347"


@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation])
@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("123456", "123456"),
        (" 012 345\t", "012345"),
        ("12-34-56", "123456"),
        ("\u00a0123\u2009456", "123456"),  # other blanks
        (RECOVERY_CODE, RECOVERY_CODE),
        ("abcd-efgh-ijkl-mnop-qrst-2347", RECOVERY_CODE),
        (" ".join(RECOVERY_CODE.lower()), RECOVERY_CODE),
    ],
)
def test_a_code_is_read_without_blanks_and_hyphens_and_in_upper_case(
    make: Callable[[Any], Form], typed: str, code: str
) -> None:
    form = make(MultiDict(code=typed, current=PASSWORD))
    assert form.validate()
    assert form["code"].data == code


@pytest.mark.parametrize(
    "typed",
    [
        "12345",
        " - ",
        "1234567",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        RECOVERY_CODE[1:],
        "0" * 24,
        "\u00df",
    ],
)
@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation])
def test_text_that_is_not_a_code_is_refused_before_it_counts_as_a_wrong_one(
    make: Callable[[Any], Form], typed: str
) -> None:
    form = make(MultiDict(code=typed, current=PASSWORD))
    assert not form.validate()
    ((field, message),) = form.field_problems()
    assert field == "code"
    assert message.startswith("A code has 6 digits. A recovery code has 24 letters and digits")


@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation, TotpForm])
def test_a_code_that_is_missing_or_too_long_is_reported_once(make: Callable[[Any], Form]) -> None:
    for typed, message in (
        ("", "Type the code."),
        ("1 " * 51, "Use no more than 100 characters."),
    ):
        form = make(MultiDict(code=typed, current=PASSWORD))
        assert not form.validate()
        assert form.field_problems() == [("code", message)]


def test_an_app_is_set_up_with_a_code_of_the_app_only() -> None:
    form = TotpForm(MultiDict(code="123 456", setup="x"))
    assert form.validate()
    form = TotpForm(MultiDict(code=RECOVERY_CODE, setup="x"))
    assert not form.validate()
    assert form.field_problems() == [("code", "A code of the app has 6 digits.")]


def test_a_confirmation_asks_for_a_code_only_if_there_is_a_second_factor() -> None:
    form = ask_for_password(MultiDict(current=PASSWORD, code="123456"))
    assert "code" not in form
    form = ask_for_confirmation(MultiDict(current=PASSWORD, code="123 456"))
    assert form["code"].data == "123456"
    assert [field.id for field in form] == ["credential", "current", "code", "next"]


@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation])
def test_a_form_for_a_code_redirects_to_local_urls_only(make: Callable[[Any], Form]) -> None:
    assert make(MultiDict(next="/account?x=1"))["next"].data == "/account?x=1"
    assert make(MultiDict(next="//evil.example"))["next"].data is None


@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation])
def test_a_form_for_a_code_that_was_not_sent_has_its_redirect_target_from_the_query(
    make: Callable[..., Form],
) -> None:
    assert make(None, next="/account?x=1")["next"].data == "/account?x=1"
    assert make(None, next="//evil.example")["next"].data is None
    assert make(MultiDict(next="/account"), next="/other")["next"].data == "/account"


@pytest.mark.parametrize("make", [ask_for_code, ask_for_confirmation])
@pytest.mark.parametrize(
    ("has_app", "query", "label", "keyboard"),
    [
        (True, {}, "Code", "numeric"),
        (True, {"with": "recovery"}, "Recovery code", None),
        (True, {"with": "something"}, "Code", "numeric"),
        (False, {}, "Recovery code", None),
        (False, {"with": "recovery"}, "Recovery code", None),
    ],
)
def test_a_form_asks_for_a_recovery_code_if_the_user_wants_that_or_has_no_app(
    make: Callable[..., CodeForm],
    has_app: bool,
    query: dict[str, str],
    label: str,
    keyboard: str | None,
) -> None:
    form = make(MultiDict(), has_app=has_app, **query)
    assert form.code.label.text == label
    assert form.code.render_kw.get("inputmode") == keyboard
    assert form.kind == ("app" if keyboard else "recovery")
    for code in ("123456", RECOVERY_CODE):  # each kind is taken
        typed = make(MultiDict(code=code, current=PASSWORD), has_app=has_app, **query)
        assert typed.validate()


def test_a_form_for_a_recovery_code_leaves_other_forms_as_they_are() -> None:
    assert ask_for_code(None, has_app=False).code.label.text == "Recovery code"
    assert ask_for_code(None).code.label.text == "Code"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("Phone", None),
        (" Ada\u2019s phone ", None),
        ("", "Type a name for the passkey."),
        ("\u3164", "This name shows nothing: use a letter, a digit or a symbol."),
        ("a\u202eb", "Use one line, without control characters or invisible ones."),
        ("a" * 101, "Use no more than 100 characters."),
    ],
)
def test_the_name_of_a_passkey_follows_the_rules_of_a_users_name(
    typed: str, message: str | None
) -> None:
    form = PasskeyNameForm(MultiDict(name=typed))
    assert form.validate() is (message is None)
    assert form.field_problems() == ([("name", message)] if message else [])
    assert form.name.data == typed.strip()
