"""The views of login and logout."""

from typing import Any

from pyramid.exceptions import BadCSRFToken
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import exception_view_config, view_config

from ...auth import login, second_factor, sessions
from ...auth.ceremonies import Ceremony
from ...auth.rate_limits import RateLimited
from ...auth.webauthn import read_id
from ...repositories import recovery_codes
from ...repositories.half_logins import HalfLogin
from ..forms import CodeForm, LoginForm
from ..guards import url_with_next
from ..security import issue_cookies, issue_half_login_cookie, revoke_cookies
from . import (
    ASK_OPERATOR,
    LOCKED_MESSAGE,
    ask_to_wait,
    begin_ceremony,
    form_context,
    form_view,
    or_get_new_password,
    redirect_url,
    show_code_refused,
    show_passkey_errors,
)
from .account import CLEAR_SITE_DATA
from .errors import show_expired
from .flash import OFFER_PASSKEY, redirect

PASSWORDS_LIMITED_MESSAGE = (
    "Too many wrong passwords. For {wait} even the right one is refused; you can log in again at "
    "{until}"
)

CODES_LIMITED_MESSAGE = (
    "Too many wrong codes. For {wait} even the right one is refused; you can try again at {until}."
)

CODES_LOCKED_MESSAGE = (
    "There were too many wrong codes, so no code of the app is accepted here any more. Use a "
    "passkey or a recovery code, log in on a device where you have logged in before, or ask the "
    "operator of this site for help."
)

INVALID_CREDENTIALS = "That address and password do not match. Check both"


@form_view("login", "login", permission=NO_PERMISSION_REQUIRED)
def log_in(request: Any) -> Any:
    """Show the login form; on POST, log in and redirect to the page that was asked for."""
    form = LoginForm(request.typed, data={"next": request.GET.get("next")})
    if request.identity is not None:
        return HTTPSeeOther(redirect_url(request, form))
    ceremony = begin_ceremony(request, "log in")
    response = None
    if ceremony and form.credential.data:
        response = _log_in_with_passkey(request, form, ceremony)
    elif request.method == "POST" and form.validate():
        response = _log_in_with_password(request, form)
    if response is not None:
        return response
    return form_context(request, form, options=ceremony and ceremony.request_options())


def _log_in_with_password(request: Any, form: LoginForm) -> Any:
    """Begin the session, or a half login if the account has a second factor.

    Returns the response, or None with an error in the form.
    """
    remembered = form.remember.data
    try:
        attempt = request.rate_limiter.admit_login(form.normalized_email())
        passwords, password = request.registry.passwords, form.password.data or ""
        account = login.authenticate(request.actor, passwords, attempt, password)
        issued = login.complete_login(request.actor, account, remembered=remembered)
    except RateLimited as limited:
        message = PASSWORDS_LIMITED_MESSAGE + or_get_new_password(request)
        locked_message = LOCKED_MESSAGE + or_get_new_password(request, ASK_OPERATOR)
        ask_to_wait(request, form, limited.wait, message, locked_message)
    except login.AuthenticationFailed:
        form.form_errors = [INVALID_CREDENTIALS + or_get_new_password(request)]
    except login.SecondFactorNeeded:
        user_id = account.credentials.user_id
        token = login.begin_half_login(request.actor, user_id, remembered=remembered)
        url = url_with_next(request, "second_step", form.next.data)
        return HTTPSeeOther(url, headers=issue_half_login_cookie(request, token))
    else:
        headers = issue_cookies(request, issued)
        return redirect(request, redirect_url(request, form), OFFER_PASSKEY, headers)
    return None


def _log_in_with_passkey(request: Any, form: LoginForm, ceremony: Ceremony) -> Any:
    """Begin the session.  Returns the response, or None with an error in the form."""
    credential, remembered = form.credential.data or "", form.remember.data
    with show_passkey_errors(request, form):
        attempt = request.rate_limiter.admit_passkey(passkey_id=read_id(credential))
        actor = request.actor
        account = login.authenticate_with_passkey(actor, ceremony, attempt, credential)
        issued = login.complete_login(actor, account, remembered=remembered, second_step=True)
        return HTTPSeeOther(redirect_url(request, form), headers=issue_cookies(request, issued))
    return None


@form_view("second_step", "second_step", permission=NO_PERMISSION_REQUIRED)
def log_in_second_step(request: Any) -> Any:
    """Show the form for a code or a passkey; on POST, complete the login."""
    half, factors = _find_half_login(request)
    form = CodeForm(request.POST, request.GET, has_app=factors.app_added_at is not None)
    if request.identity is not None:
        return HTTPSeeOther(redirect_url(request, form))
    if half is None:
        return _restart(request, form)
    ceremony = begin_ceremony(request, "second step") if factors.passkeys else None
    response = None
    try:
        if ceremony and form.credential.data:
            response = _use_passkey(request, form, half, ceremony)
        elif request.method == "POST" and form.validate():
            response = _use_code(request, form, half)
    except login.HalfLoginEnded:
        return _restart(request, form)
    if response is not None:
        return response
    options = ceremony and ceremony.request_options(factors.passkeys)
    return form_context(request, form, options=options, has_passkeys=bool(factors.passkeys))


def _use_code(request: Any, form: CodeForm, half: HalfLogin) -> Any:
    """Complete the login with a code.  Returns the response, or None with an error in the form.

    Raises HalfLoginEnded.
    """
    code, box = form.code.data or "", request.registry.totp_secrets
    is_app_code = second_factor.is_app_code(code)
    try:
        attempt = request.rate_limiter.admit_code(half.user_id, is_app_code=is_app_code)
        issued = login.complete_half_login(request.actor, box, half, attempt, code)
    except RateLimited as limited:
        ask_to_wait(request, form, limited.wait, CODES_LIMITED_MESSAGE, CODES_LOCKED_MESSAGE)
        return None
    except second_factor.CodeRefused as refused:
        show_code_refused(request, form, refused)
        return None
    headers = issue_cookies(request, issued)
    left = recovery_codes.count(request.db, half.user_id)
    if left <= second_factor.FEW_RECOVERY_CODES or not is_app_code:
        return redirect(request, redirect_url(request, form), f"codes_left_{left}", headers)
    return redirect(request, redirect_url(request, form), OFFER_PASSKEY, headers)


def _use_passkey(request: Any, form: CodeForm, half: HalfLogin, ceremony: Ceremony) -> Any:
    """Complete the login with a passkey.  Returns the response, or None with an error in the form.

    Raises HalfLoginEnded.
    """
    credential = form.credential.data or ""
    with show_passkey_errors(request, form):
        attempt = request.rate_limiter.admit_passkey(user_id=half.user_id)
        issued = login.complete_half_login_with_passkey(
            request.actor, ceremony, half, attempt, credential
        )
        return HTTPSeeOther(redirect_url(request, form), headers=issue_cookies(request, issued))
    return None


def _restart(request: Any, form: CodeForm) -> Any:
    """Return a redirect to the login form, for a half login that has ended or expired."""
    return redirect(request, url_with_next(request, "login", form.next.data), "login_expired")


def _find_half_login(request: Any) -> tuple[HalfLogin | None, second_factor.Factors]:
    """Return the browser's half login, or None, and the second factors of its account."""
    none = second_factor.Factors(None, 0, None, [])
    if request.half_login_token is None:
        return None, none
    with request.autocommit() as db:
        half = login.find_half_login(db, request.half_login_token)
        return half, second_factor.describe(db, half.user_id) if half else none


@view_config(route_name="logout", permission=NO_PERMISSION_REQUIRED, require_methods=("POST",))
def log_out(request: Any) -> Any:
    """End the session, if there is one, and a login that waits for its second step."""
    if request.login_session is not None:
        sessions.end(request.actor, request.login_session)
    if request.half_login_token is not None:
        login.end_half_login(request.db, request.half_login_token)
    headers = [*revoke_cookies(request), CLEAR_SITE_DATA]
    return redirect(request, request.route_path("greeting"), "logged_out", headers)


@exception_view_config(BadCSRFToken, route_name="login")
@exception_view_config(BadCSRFToken, route_name="second_step")
@exception_view_config(BadCSRFToken, route_name="register")
def go_on_if_logged_in(error: Exception, request: Any) -> Any:
    """Redirect a browser that has logged in since the form was loaded, perhaps in another tab."""
    if request.session_token is None:
        return show_expired(error, request)
    return HTTPSeeOther(redirect_url(request, LoginForm(request.POST)))


@exception_view_config(BadCSRFToken, route_name="logout")
def go_on_if_logged_out(error: Exception, request: Any) -> Any:
    """Redirect a browser that has logged out since the page was loaded, perhaps in another tab."""
    if request.session_token is not None:
        return show_expired(error, request)
    return redirect(request, request.route_path("greeting"), "logged_out")
