"""Steps that people take in a browser."""

from typing import Any

import webtest

from hello_login.web.routes import STATIC

EMAIL = "ada@example.com"
STYLESHEET = f"/{STATIC}/style.css"
PASSWORD = "correct horse battery"
NEW_PASSWORD = "staple battery horse"


def register(browser: webtest.TestApp, *, status: int | None = 303, **typed: str) -> Any:
    """Send the registration form, and return the answer; None accepts any status."""
    form = browser.get("/register").forms[0]
    values = {"name": "Ada Lovelace", "email": EMAIL, "password": PASSWORD, **typed}
    values.setdefault("confirm", values["password"])
    for name, value in values.items():
        form[name] = value
    return form.submit(status=status or "*")


def log_in(
    browser: webtest.TestApp,
    *,
    email: str = EMAIL,
    password: str = PASSWORD,
    remember: bool = False,
    page: str = "/login",
    status: int | None = 303,
) -> Any:
    """Send the login form, and return the answer; None accepts any status."""
    form = browser.get(page).forms[0]
    form["email"] = email
    form["password"] = password
    form["remember"] = remember
    return form.submit(status=status or "*")


def log_out(browser: webtest.TestApp) -> Any:
    """Press the logout button in the page's header."""
    return browser.get("/").forms[0].submit(status=303)


def send(browser: webtest.TestApp, path: str, *, status: int = 303, **typed: str) -> Any:
    """Fill in and send the form on the page, and return the answer."""
    form = browser.get(path).forms[1]
    for name, value in typed.items():
        form[name] = value
    return form.submit(status=status)


def change_password(
    browser: webtest.TestApp,
    *,
    current: str = PASSWORD,
    password: str = NEW_PASSWORD,
    status: int = 303,
) -> Any:
    typed = {"current": current, "password": password, "confirm": password}
    return send(browser, "/account/password", status=status, **typed)


def end(browser: webtest.TestApp, button: str) -> Any:
    """Press the first button with this text on the account page."""
    forms = browser.get("/account").forms.values()
    form = next(form for form in forms if button in form.text)
    return form.submit(status=303)


def confirm(
    browser: webtest.TestApp,
    *,
    password: str = PASSWORD,
    page: str = "/account/confirm",
    status: int | None = 303,
) -> Any:
    """Type the password on the page that asks for it again, and return the answer.

    page: with the page to go on with.  status: None accepts any.
    """
    form = browser.get(page).forms[1]
    form["current"] = password
    return form.submit(status=status or "*")


def csrf_token(browser: webtest.TestApp) -> str:
    """Return the CSRF token of a browser that is logged in."""
    return str(browser.get("/").forms[0]["csrf_token"].value)


def error_of(page: Any, field: str) -> str:
    """Return the error message of the field, without the word that screen readers say before it."""
    return _without_prefix(page.html.find(id=f"{field}-error").get_text())


def form_error_of(page: Any) -> str:
    """Return the error message that belongs to no field, without that word."""
    return _without_prefix(page.html.find(id="form-error").get_text())


def _without_prefix(text: str) -> str:
    prefix, message = text.split(" ", 1)
    assert prefix == "Error:"
    return message
