"""The view of re-authentication, and helpers of the views that change an account."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import remember

from ...auth import login, second_factor, sessions
from ...auth.ceremonies import Ceremony
from ...auth.rate_limits import RateLimited
from ...auth.second_factor import CodeRefused
from .. import forms
from . import (
    ask_to_wait,
    begin_ceremony,
    form_context,
    form_view,
    redirect_url,
    show_code_refused,
    show_passkey_errors,
)
from .flash import redirect

SESSION_LIMITED_MESSAGE = (
    "Too many wrong passwords or codes. For {wait} even the right ones are refused; you can try "
    "again at {until}."
)

SESSION_LOCKED_MESSAGE = (
    "There were too many wrong passwords or codes, so none is accepted in this session any more. "
    "Log out, and log in again."
)


@form_view("confirm", "confirm", permission="logged_in")
def confirm(request: Any) -> Any:
    """Show the form for the password and, with a second factor, the code; on POST, check both.

    A passkey replaces both.  Then the login is fresh, and the views with fresh=True are open.
    """
    session = request.login_session
    factors = find_factors(request)
    form = forms.ConfirmForm(
        request.POST,
        request.GET,
        has_second_factor=session.has_second_factor,
        has_app=factors.app_added_at is not None,
    )
    ceremony = begin_ceremony(request, "confirm") if factors.passkeys else None
    if ceremony and form.credential.data:
        confirmed = _use_passkey(request, form, ceremony)
    else:
        confirmed = request.method == "POST" and form.validate() and reauthenticate(request, form)
    if confirmed:
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        headers = renew_session(request, authenticated=True)
        return HTTPSeeOther(redirect_url(request, form), headers=headers)
    options = ceremony and ceremony.request_options(factors.passkeys)
    return form_or_redirect(request, form, options=options, has_passkeys=bool(factors.passkeys))


def find_factors(request: Any) -> second_factor.Factors:
    """Return the user's second factors, before the request's transaction begins."""
    with request.autocommit() as db:
        return second_factor.describe(db, request.identity.id)


def _use_passkey(request: Any, form: forms.ConfirmForm, ceremony: Ceremony) -> bool:
    """Return whether the user has used a passkey.  Adds an error to the form if not."""
    credential, user_id = form.credential.data or "", request.login_session.user.id
    with show_passkey_errors(request, form):
        attempt = request.rate_limiter.admit_passkey(user_id=user_id)
        login.reauthenticate_with_passkey(request.actor, ceremony, attempt, credential, user_id)
        return True
    return False


def reauthenticate(request: Any, form: forms.ReauthenticateForm) -> bool:
    """Return whether the form's password is right, and its code if it has one.

    Adds an error to the form if not.
    """
    passwords, password = request.registry.passwords, form.current.data or ""
    # None would skip the check of the code.
    code = (form["code"].data or "") if "code" in form else None
    box = request.registry.totp_secrets
    try:
        attempt = request.rate_limiter.admit_reauthentication(request.login_session)
        login.reauthenticate(request.actor, passwords, attempt, password, code=code, box=box)
    except RateLimited as limited:
        ask_to_wait(request, form, limited.wait, SESSION_LIMITED_MESSAGE, SESSION_LOCKED_MESSAGE)
    except login.AuthenticationFailed:
        form.current.errors = ["This is not your password. Type the one that you log in with."]
    except CodeRefused as refused:
        show_code_refused(request, form, refused)
    else:
        return True
    return False


def form_or_redirect(request: Any, form: forms.Form, **more: Any) -> Any:
    """Return the form's context, or a redirect if the session has ended."""
    if request.method == "POST" and not sessions.lock_live(request.db, request.login_session):
        return redirect_too_late(request)
    return form_context(request, form, **more)


def redirect_too_late(request: Any) -> Any:
    """Return a redirect for a request whose session was ended or renewed since it began.

    After a double click, the first request may have made the change already.
    """
    return redirect(request, request.route_path("account"), "too_late")


def renew_session(request: Any, *, authenticated: bool = False) -> list[tuple[str, str]]:
    """Replace the session's token, and return the headers that set its cookies.

    authenticated: the user has re-authenticated with every factor.
    The CSRF token changes with the session's token (ASVS 5.0, 7.2.4).
    """
    session = request.login_session
    issued = sessions.renew(request.db, session, authenticated=authenticated)
    return list(remember(request, issued))
