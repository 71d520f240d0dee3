"""The view of registration."""

from typing import Any

from markupsafe import Markup
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED

from ...auth import accounts, login
from ..forms import EmailForm, RegisterForm
from ..guards import url_with_next
from ..security import issue_cookies
from ..typed import keep_typed
from . import admit, form_context, form_view, redirect_url
from .flash import redirect
from .mail import queue_mail, show_sent

ADDRESS_TAKEN = Markup('You already have an account with this address. <a href="{}">Log in</a>')


@form_view("register", "register", permission=NO_PERMISSION_REQUIRED)
def register(request: Any) -> Any:
    """Show the registration form; on POST, add an account and log in to it."""
    settings = request.registry.hello_login
    if settings.registration == "closed" and request.identity is None:
        request.response.status_int = 403
        request.override_renderer = "hello_login.web:templates/registration_closed.jinja2"
        return {}
    if settings.sends_mail:
        return _ask_for_link(request)
    passwords = request.registry.passwords
    form = RegisterForm(request.typed, passwords, data={"next": request.GET.get("next")})
    if request.identity is not None:
        return HTTPSeeOther(redirect_url(request, form))
    count = request.rate_limiter.admit_registration
    if request.method == "POST" and form.validate() and admit(request, form, count):
        name, email = form.name.data or "", form.email.data or ""
        password = form.password.data or ""
        try:
            user_id = accounts.register(
                request.actor, passwords, name=name, email=email, password=password
            )
        except accounts.EmailTaken:
            login_url = url_with_next(request, "login", form.next.data)
            form.email.errors = [ADDRESS_TAKEN.format(login_url)]
            keep_typed(request, request.response, request.route_path("login"))
        else:
            issued = login.complete_registration(request.actor, user_id)
            headers = issue_cookies(request, issued)
            return redirect(request, redirect_url(request, form), "registered", headers)
    return form_context(request, form, advice=passwords.advice)


def _ask_for_link(request: Any) -> Any:
    """Show the form for the address; on POST, queue a mail with a link to register.

    The answer and the work are the same whether the address has an account or not.
    """
    if request.identity is not None:
        return HTTPSeeOther(request.registry.hello_login.after_login)
    form = EmailForm(request.typed)
    if request.method == "POST" and form.validate() and queue_mail(request, form, "register"):
        return show_sent(request, form)
    request.override_renderer = "hello_login.web:templates/register_by_mail.jinja2"
    return form_context(request, form)
