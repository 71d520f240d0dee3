"""The views of mail: they ask for a link, and use one."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.security import NO_PERMISSION_REQUIRED

from ...auth import accounts, links, login, sessions
from ...auth.accounts import LinkExpired
from ...repositories import mails, throttles, users
from ...repositories.sessions import Session
from ...repositories.tokens import Link
from .. import forms
from ..security import issue_cookies
from . import admit, form_context, form_view
from .flash import redirect


@form_view("forgot", "forgot", permission=NO_PERMISSION_REQUIRED)
def forgot_password(request: Any) -> Any:
    """Show the form for the address; on POST, queue a mail with a link to set a new password.

    The answer and the work are the same whether the address has an account or not.
    """
    require_mail(request)
    form = forms.EmailForm(request.typed, obj=request.identity)
    if request.method == "POST" and form.validate() and queue_mail(request, form, "forgot"):
        return show_sent(request, form)
    return form_context(request, form)


def require_mail(request: Any) -> None:
    """Raise HTTPNotFound if no mail is sent."""
    if not request.registry.hello_login.sends_mail:
        raise HTTPNotFound


def queue_mail(request: Any, form: forms.EmailForm, kind: str) -> bool:
    """Queue a mail to the form's address; add an error to the form if there were too many."""
    if not admit(request, form, request.rate_limiter.admit_mail_request):
        return False
    throttles.delete_forgotten(request.db)
    mails.insert(request.db, kind, form.email.data or "")
    request.wake_sender_after_commit()
    return True


def show_sent(request: Any, form: forms.EmailForm) -> Any:
    """Return the context of the page that names the address to which a mail is on its way."""
    request.override_renderer = "hello_login.web:templates/sent.jinja2"
    return {"form": form}


@form_view("link", "link", permission=NO_PERMISSION_REQUIRED)
def use_link(request: Any) -> Any:
    """Show the form of the link's purpose; on POST only, use the link: programs open links, too."""
    token, session = request.matchdict["token"], request.login_session
    with request.autocommit() as db:
        link = links.find(db, token)
        user = users.get_by_id(db, link.user_id) if link and link.user_id else None
    closed = request.registry.hello_login.registration == "closed"
    registering = ("invite",) if closed else ("invite", "register")
    try:
        if link is not None and link.purpose in registering:
            return _register(request, token, link, session)
        if link is None or user is None:
            raise LinkExpired
        if link.purpose == "change":
            return _change_address(request, token, user, link.address)
        return _set_password(request, token, user, link)
    except LinkExpired:
        request.tm.doom()  # Otherwise an undo is used up if its address was taken just now.
        request.response.status_int = 404
        request.override_renderer = "hello_login.web:templates/link_expired.jinja2"
        return {}


def _register(request: Any, token: str, link: Link, session: Session | None) -> Any:
    passwords, address = request.registry.passwords, link.address
    form = forms.RegisterByLinkForm(request.typed, passwords, address)
    if request.method == "POST" and form.validate():
        name, password = form.name.data or "", form.password.data or ""
        user_id = accounts.register_by_link(
            request.actor, passwords, token, link, name=name, password=password
        )
        if session is not None:
            sessions.end(request.actor, session)
        headers = issue_cookies(request, login.complete_registration(request.actor, user_id))
        after_login = request.registry.hello_login.after_login
        return redirect(request, after_login, "registered", headers)
    return form_context(request, form, purpose="register", address=address, advice=passwords.advice)


def _set_password(request: Any, token: str, user: users.User, link: Link) -> Any:
    """Set a new password, and undo a change of the address if the link is for that."""
    passwords = request.registry.passwords
    address = link.address if link.purpose == "undo" else user.email
    form = forms.NewPasswordForm(request.POST, passwords, user.name, address)
    if request.method == "POST" and form.validate():
        actor, password = request.actor, form.password.data or ""
        if link.purpose == "undo":
            accounts.undo_address(actor, passwords, token, user, address, password)
        else:
            accounts.reset_password(actor, passwords, token, link.purpose, user, password)
        return redirect(request, request.route_path("login"), "password_reset")
    values = {"purpose": link.purpose, "address": address, "advice": passwords.advice}
    return form_context(request, form, **values)


def _change_address(request: Any, token: str, user: users.User, address: str) -> Any:
    form = forms.Form(request.POST)
    if request.method == "POST":
        accounts.change_address(request.actor, token, user)
        return redirect(request, request.route_path("account"), "address_changed")
    return form_context(request, form, purpose="change", address=address)
