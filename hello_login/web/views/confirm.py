"""The view of re-authentication, and what views that need a password share."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import remember

from ...auth import login, sessions
from ...auth.rate_limits import RateLimited
from ...auth.second_factor import CodeRefused
from .. import forms
from . import ask_to_wait, form_context, form_view, redirect_url, show_code_refused
from .flash import redirect

SESSION_LOCKED_MESSAGE = (
    "There were too many wrong passwords or codes, so none is accepted in this session any more. "
    "Log out, and log in again."
)


@form_view("confirm", "confirm", permission="logged_in")
def confirm(request: Any) -> Any:
    """Show the form for the password and, with a second factor, the code; on POST, check both.

    Then the login is fresh, and the views with fresh=True are open.
    """
    has_second_factor = request.login_session.has_second_factor
    next_url = {"next": request.GET.get("next")}
    form = forms.ConfirmForm(request.POST, has_second_factor=has_second_factor, data=next_url)
    if has_second_factor and request.GET.get("with") == "recovery":
        form.ask_for_recovery_code()
    if request.method == "POST" and form.validate() and reauthenticate(request, form):
        if not sessions.lock_live(request.db, request.login_session):
            return redirect_too_late(request)
        headers = renew_session(request, authenticated=True)
        return HTTPSeeOther(redirect_url(request, form), headers=headers)
    return form_or_redirect(request, form)


def reauthenticate(request: Any, form: forms.ReauthenticateForm) -> bool:
    """Return whether the form's password is right, and its code if it has one.

    Adds an error to the form if not.
    """
    passwords, password = request.registry.passwords, form.current.data or ""
    code, box = form.typed_code(), request.registry.totp_secrets
    try:
        attempt = request.rate_limiter.admit_reauthentication(request.login_session)
        login.reauthenticate(request.actor, passwords, attempt, password, code=code, box=box)
    except RateLimited as limited:
        ask_to_wait(request, form, limited.wait, SESSION_LOCKED_MESSAGE)
        return False
    except login.AuthenticationFailed:
        form.current.errors = ["This is not your password: type the one you log in with."]
        return False
    except CodeRefused as refused:
        show_code_refused(request, form, refused)
        return False
    return True


def form_or_redirect(request: Any, form: forms.Form, **more: Any) -> Any:
    """Return the form's context, or a redirect if the session has ended."""
    if request.method == "POST" and not sessions.lock_live(request.db, request.login_session):
        return redirect_too_late(request)
    return form_context(request, form, **more)


def redirect_too_late(request: Any) -> Any:
    """Return a redirect for a request whose session was ended or renewed since it began.

    After a double click, the first request may have done already what the second one asks for.
    """
    return redirect(request, request.route_path("account"), "too_late")


def renew_session(request: Any, *, authenticated: bool = False) -> list[tuple[str, str]]:
    """Replace the session's token, and return the headers that set its cookies.

    authenticated: the user has re-authenticated with every factor.
    The CSRF token changes with it (ASVS 5.0, 7.2.4).
    """
    session = request.login_session
    issued = sessions.renew(request.db, session, authenticated=authenticated)
    return list(remember(request, issued))
