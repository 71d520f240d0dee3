"""The views of login and logout."""

from typing import Any

from pyramid.exceptions import BadCSRFToken
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import exception_view_config, view_config

from ...auth import login, sessions
from ...auth.rate_limits import RateLimited
from ..forms import LoginForm
from ..security import issue_cookies, revoke_cookies
from . import ask_to_wait, form_context, form_view, redirect_url
from .account import CLEAR_SITE_DATA
from .errors import show_expired
from .flash import redirect

INVALID_CREDENTIALS = "The address or the password is wrong: check both, and try again."


@form_view("login", "login", permission=NO_PERMISSION_REQUIRED)
def log_in(request: Any) -> Any:
    """Show the login form; on POST, log in and redirect to the page that was asked for."""
    form = LoginForm(request.POST, data={"next": request.GET.get("next")})
    if request.identity is not None:
        return HTTPSeeOther(redirect_url(request, form))
    if request.method == "POST" and form.validate():
        try:
            attempt = request.rate_limiter.admit_login(form.normalized_email())
            passwords, password = request.registry.passwords, form.password.data or ""
            user_id = login.authenticate(request.actor, passwords, attempt, password)
        except RateLimited as limited:
            ask_to_wait(request, form, limited.wait)
        except login.AuthenticationFailed:
            form.form_errors = [INVALID_CREDENTIALS]
        else:
            remembered = form.remember.data
            issued = login.complete_login(request.actor, user_id, remembered=remembered)
            headers = issue_cookies(request, issued)
            return HTTPSeeOther(redirect_url(request, form), headers=headers)
    return form_context(request, form)


@view_config(route_name="logout", permission=NO_PERMISSION_REQUIRED, require_methods=("POST",))
def log_out(request: Any) -> Any:
    """End the session, if there is one."""
    if request.login_session is not None:
        sessions.end(request.actor, request.login_session)
    headers = [*revoke_cookies(request), CLEAR_SITE_DATA]
    return redirect(request, request.route_path("greeting"), "logged_out", headers)


@exception_view_config(BadCSRFToken, route_name="login")
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
