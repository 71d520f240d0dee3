"""Views: they read a form, call the auth layer, and return a response."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any

from markupsafe import Markup, escape
from pyramid.csrf import get_csrf_token
from pyramid.view import view_config
from webob.acceptparse import create_accept_header

from ...auth import second_factor, webauthn
from ...auth.ceremonies import Ceremony, Purpose
from ...auth.rate_limits import RateLimited
from ...auth.second_factor import CodeRefused, is_app_code
from ...auth.webauthn import PasskeyRefused
from ...repositories.throttles import FOREVER
from ..forms import CodeForm, Form, LoginForm, PasskeyForm, RegisterForm
from .flash import MESSAGES

JSON, HTML = "application/json", "text/html"

LIMITED_MESSAGE = "Too many attempts. Wait {wait}: you can try again at {until}."
"""The message of a rate limit.  wait: the time in words.  until: the time of day."""

ASK_OPERATOR = ", or ask the operator of this site for help"

LOCKED_MESSAGE = (
    "There were too many wrong passwords, so no password is accepted here any more. Use a passkey "
    "if you have one, log in on a device where you have logged in before"
)
"""The message of a lock.  A view adds its end: the link to a new password, or ASK_OPERATOR."""

CODE_REFUSED: dict[second_factor.Reason, str] = {
    "wrong": "This code is wrong. Type the one that the app shows now. If that does not help, "
    "check the clock of your phone.",
    "used": "This code does not work any more: wait until the app shows the next one.",
    "clock": "This code is for another time. Check the clock of your phone: let it set the time by "
    "itself. Then type the code that the app shows.",
    "unreadable": "We can't check codes of the app at the moment, and our log says why. Use a "
    "recovery code, or try again later.",
}

PASSKEY_REFUSED: dict[webauthn.Reason, str] = {
    "malformed": "Your browser sent something that we can't read. Try again.",
    "expired": "This page was open for too long. Try again.",
    "unknown": "This site does not know this passkey: it may have been removed. Go on without it, "
    "and delete it from your device.",
    "other_account": "This passkey is for another account: use one of your own.",
    "deactivated": "This account is deactivated: ask the operator of this site for help.",
    "invalid": "We could not verify this passkey. Try again, or go on without it.",
    "copied": "This passkey was used out of order, so there may be a copy of it. Log in with your "
    "password, remove the passkey on the page of your account, and add a new one.",
    "taken": "An account has this passkey already: use another device or password manager.",
    "too_many": MESSAGES["too_many_passkeys"],
}

RECOVERY_CODE_REFUSED = "This recovery code is wrong, or was used before: type another one."

UNITS = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}


def includeme(config: Any) -> None:
    """Add the views of all modules of this package, and configure their templates."""
    config.include(".flash")
    config.add_settings(
        {"jinja2.undefined": "strict", "jinja2.trim_blocks": True, "jinja2.lstrip_blocks": True}
    )

    # The setting jinja2.globals is left to the application that includes this one.
    def add_globals() -> None:
        config.get_jinja2_environment().globals["utc"] = timezone.utc

    config.action(None, add_globals, order=1)
    config.scan()


def form_view(route_name: str, template: str, **more: Any) -> view_config:
    """Return the decorator of a view that shows a form and, on POST, processes it."""
    return view_config(
        route_name=route_name,
        renderer=f"hello_login.web:templates/{template}.jinja2",
        require_methods=("GET", "HEAD", "POST"),
        **more,
    )


def negotiate_media_type(request: Any, *offers: str) -> str:
    """Return the offer that the client prefers, or the first one if it accepts none.

    The response must have the header Vary: Accept.
    """
    return _negotiate(request.environ.get("HTTP_ACCEPT"), offers)


# Browsers send few different Accept headers.
@lru_cache(256)
def _negotiate(accept: str | None, offers: tuple[str, ...]) -> str:
    acceptable = create_accept_header(accept).acceptable_offers(list(offers))
    return str(acceptable[0][0]) if acceptable else offers[0]


def form_context(request: Any, form: Form, **more: Any) -> dict[str, Any]:
    """Return the template's values for a form; set status 422 if the form was posted."""
    if request.method == "POST" and request.response.status_int == 200:
        request.response.status_int = 422
    return {"form": form, **more}


def ask_to_wait(
    request: Any,
    form: Form,
    wait: timedelta,
    message: str = LIMITED_MESSAGE,
    locked_message: str = f"{LOCKED_MESSAGE}{ASK_OPERATOR}.",
) -> None:
    """Set status 429 (RFC 6585), Retry-After and the form's error.

    message: has the placeholders of LIMITED_MESSAGE.
    locked_message: the error of a lock, which has no Retry-After, because it does not expire.
    """
    request.response.status_int = 429
    _empty_app_code(form)
    if wait == FOREVER:
        form.form_errors = [locked_message]
    else:
        request.response.retry_after = math.ceil(wait.total_seconds())
        until = _time_of_day(datetime.now(timezone.utc) + wait)
        escaped = Markup(message)  # noqa: S704 - a constant, or escaped by the view
        form.form_errors = [escaped.format(wait=in_words(wait), until=until)]


def _time_of_day(moment: datetime) -> Markup:
    """Return an HTML element with the hour and the minute, rounded up to a minute."""
    latest = moment + timedelta(minutes=1) - timedelta.resolution
    minute = latest.replace(second=0, microsecond=0)
    element = Markup('<time datetime="{}" title="{}" data-clock>{} UTC</time>')
    title = f"{minute.day} {minute:%B %Y, %H:%M:%S} UTC"
    return element.format(minute.isoformat(), title, f"{minute:%H:%M}")


def or_get_new_password(request: Any, otherwise: str = "") -> Markup:
    """Return the end of a sentence: a link to a new password, or `otherwise` if no mail is sent."""
    if not request.registry.hello_login.sends_mail:
        return escape(f"{otherwise}.")
    return Markup(', or <a href="{}">get a new password</a>.').format(request.route_path("forgot"))


def show_code_refused(request: Any, form: Form, refused: CodeRefused) -> None:
    """Add the reason why a code was refused to the form's field `code`.

    Set status 503 if the code can't be checked.
    """
    has_app = not isinstance(form, CodeForm) or form.has_app
    is_app = has_app and is_app_code(form["code"].data or "")
    form["code"].errors = [CODE_REFUSED[refused.reason] if is_app else RECOVERY_CODE_REFUSED]
    _empty_app_code(form)
    if refused.reason == "unreadable":
        request.response.status_int = 503


def begin_ceremony(request: Any, purpose: Purpose) -> Ceremony | None:
    """Return the use of a passkey on this page, or None if the site offers no passkeys."""
    site = request.registry.relying_party
    # With a session, the CSRF token also depends on the key in SECRET_KEY.
    return site and Ceremony(site, purpose, request.session_token or get_csrf_token(request))


def admit(request: Any, form: Form, count: Callable[..., None], *arguments: Any) -> bool:
    """Count an attempt with a method of RateLimiter; add an error to the form if it is refused."""
    try:
        count(*arguments)
    except RateLimited as limited:
        ask_to_wait(request, form, limited.wait)
        return False
    return True


@contextmanager
def show_passkey_errors(request: Any, form: PasskeyForm) -> Iterator[None]:
    """Suppress RateLimited and PasskeyRefused, and add their text to the form."""
    try:
        yield
    except RateLimited as limited:
        ask_to_wait(request, form, limited.wait)
    except PasskeyRefused as refused:
        form.form_errors = [PASSKEY_REFUSED[refused.reason]]
        if refused.reason == "unknown":
            # The browser is told as well, so it does not offer the passkey again.
            passkey_id = webauthn.read_id(form.credential.data or "")
            form.signals = request.registry.relying_party.signal_unknown(passkey_id)


def _empty_app_code(form: Form) -> None:
    """Empty the field `code` if it has a code of the app, because the app shows a new one soon."""
    if "code" in form and is_app_code(form["code"].data or ""):
        form["code"].data = ""


def redirect_url(request: Any, form: LoginForm | RegisterForm | CodeForm) -> str:
    """Return the URL to redirect to after a login: the form's next, or after_login."""
    return form.next.data or str(request.registry.hello_login.after_login)


def in_words(time: timedelta) -> str:
    """Return the time in minutes, or in seconds if it is under a minute, rounded up."""
    seconds = math.ceil(time.total_seconds())
    if seconds < 60:
        return _with_unit(seconds, "second")
    return _with_unit(math.ceil(seconds / 60), "minute")


def ago(time: timedelta) -> str:
    """Return the time in its largest unit, rounded down, such as "2 hours ago"."""
    for unit, length in UNITS.items():
        if time >= length:
            return f"{_with_unit(time // length, unit)} ago"
    return "just now"


def _with_unit(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
