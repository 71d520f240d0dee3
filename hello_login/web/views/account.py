"""The views of the user's own account."""

from datetime import datetime, timezone
from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...auth import accounts, audit, second_factor, sessions
from ...auth.rate_limits import RateLimited
from ...repositories import events, mails, users
from .. import forms
from ..security import revoke_cookies
from . import ago, ask_to_wait, form_context, form_view
from .activity import FAILURES, WORDS, group_all, group_in_a_row
from .confirm import form_or_redirect, reauthenticate, redirect_too_late, renew_session
from .flash import OFFER_PASSKEY, redirect
from .mail import require_mail
from .passkeys import signal_passkeys
from .second_factor import may_set_up

SHOWN_SESSIONS = 20
SHOWN_EVENTS = 10
SHOWN_FAILURES = 5
"""The numbers of entries in the lists on the account page."""

READ_EVENTS = 100
"""The number of events that are read for each of two lists.  Similar events share an entry."""

CLEAR_SITE_DATA = ("Clear-Site-Data", '"cache", "storage"')
"""Deletes data in the browser (ASVS 5.0, 14.3.1).  "cookies" is left out, because it would delete
the cookies of every site under the same domain."""


@view_config(route_name="account", renderer="hello_login.web:templates/account.jinja2")
def show_account(request: Any) -> Any:
    """Show the user, the sessions and the latest events."""
    session = request.login_session
    listed = sessions.list_live(request.db, session.user.id)
    listed.sort(key=lambda each: each.fingerprint != session.fingerprint)
    factors = second_factor.describe(request.db, session.user.id)
    latest = events.list_with_failures(request.db, session.user.id, READ_EVENTS, audit.RETENTION)
    failures = [event for event in latest if event.event in FAILURES]
    others = [event for event in latest if event.event not in FAILURES]
    return {
        "user": session.user,
        "may_confirm": request.registry.hello_login.sends_mail and not session.user.confirmed_at,
        "current": session.fingerprint,
        "factors": factors,
        "offers_passkeys": request.registry.relying_party is not None,
        "offer": _may_offer_passkey(request),
        "signals": signal_passkeys(request, factors),
        "sessions": listed[:SHOWN_SESSIONS],
        "more": len(listed[SHOWN_SESSIONS:]),
        "last_login": events.find_login_before(
            request.db, session.user.id, session.id, audit.RETENTION
        ),
        "events": group_in_a_row(others)[:SHOWN_EVENTS],
        # With group_in_a_row, alternating guesses from two places would fill the list.
        "failures": group_all(failures)[:SHOWN_FAILURES],
        "words": WORDS,
        "days": audit.RETENTION.days,
        "now": datetime.now(timezone.utc),
        "ago": ago,
    }


@form_view("change_profile", "profile", fresh=True)
def change_profile(request: Any) -> Any:
    """Show the form for name and address; on POST, store them.

    If mail is sent, a new address requires a link in a mail to it.
    """
    session = request.login_session
    form = forms.NameAndEmailForm(request.typed, obj=session.user)
    if request.method == "POST" and form.validate():
        name, email = form.name.data or "", form.email.data or ""
        try:
            request.rate_limiter.admit_profile_change(session)
            if email != session.user.email:
                # Like a registration, the answer discloses whether an address has an account.
                request.rate_limiter.admit_registration()
            if not sessions.lock_live(request.db, session):
                return redirect_too_late(request)
            message = _store_profile(request, name, email)
            return redirect(request, request.route_path("account"), message)
        except accounts.EmailTaken:
            form.email.errors = ["This address belongs to another account: use a different one."]
        except RateLimited as limited:
            ask_to_wait(request, form, limited.wait)
    return form_or_redirect(request, form)


@form_view("change_password", "password", fresh=True)
def change_password(request: Any) -> Any:
    """Show the form for a new password; on POST, store it and end all other sessions."""
    session, passwords = request.login_session, request.registry.passwords
    form = forms.PasswordForm(request.POST, passwords, session.user.name, session.user.email)
    if request.method == "POST" and form.validate() and reauthenticate(request, form):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        password = form.password.data or ""
        accounts.change_password(request.actor, passwords, session.user, password, keep=session)
        headers = renew_session(request)
        return redirect(request, request.route_path("account"), "password_changed", headers)
    return form_or_redirect(request, form, advice=passwords.advice)


@form_view("end_sessions", "end_sessions", fresh=True)
def end_sessions(request: Any) -> Any:
    """Ask whether to end another session, or all others; on POST, end them.

    The parameter `session` is the fingerprint of a session, or "others".
    """
    session, which = request.login_session, request.params.get("session", "")
    with request.autocommit() as db:
        listed = sessions.list_live(db, session.user.id)
    others = {each.fingerprint: each for each in listed if each.fingerprint != session.fingerprint}
    if which != "others" and which not in others:
        return HTTPSeeOther(request.route_path("account"))
    form = forms.Form(request.POST)
    if request.method == "POST":
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        if which == "others":
            sessions.end_all(request.actor, session.user, keep=session)
        else:
            sessions.end_one(request.actor, session.user, which)
        ended = "sessions_ended" if which == "others" else "session_ended"
        return redirect(request, request.route_path("account"), ended)
    return form_context(request, form, which=which, ending=others.get(which))


@form_view("delete_account", "delete", fresh=True)
def delete_account(request: Any) -> Any:
    """Show the form for the password; on POST, delete the account with everything in it."""
    session, form = request.login_session, forms.ReauthenticateForm(request.POST)
    if request.method == "POST" and form.validate() and reauthenticate(request, form):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        sessions.end(request.actor, session)
        accounts.delete(request.actor, session.user, session)
        headers = [*revoke_cookies(request), CLEAR_SITE_DATA]
        return redirect(request, request.route_path("greeting"), "deleted", headers)
    return form_or_redirect(request, form)


@view_config(route_name="confirm_address", permission="logged_in", require_methods=("POST",))
def confirm_address(request: Any) -> Any:
    """Queue a mail with a link that confirms the address."""
    require_mail(request)
    message = "link_sent"
    try:
        request.rate_limiter.admit_mail_request()
    except RateLimited:
        message = "too_many_mails"
    else:
        if not sessions.lock_live(request.db, request.login_session):
            return redirect_too_late(request)
        # The address may have changed meanwhile.
        mails.insert_notice(request.db, "confirm", request.identity.id)
        request.wake_sender_after_commit()
    # The account page would lead to the set-up too, but with another message.
    page = "totp" if request.registry.security_policy.must_set_up(request) else "account"
    return redirect(request, request.route_path(page), message)


@view_config(route_name="change_password_hint", permission=NO_PERMISSION_REQUIRED)
def redirect_to_password_form(request: Any) -> Any:
    """Redirect password managers to the form (W3C: A Well-Known URL for Changing Passwords)."""
    return HTTPSeeOther(request.route_path("change_password"))


def _may_offer_passkey(request: Any) -> bool:
    """Return whether to offer a passkey: once after a login with a password, unless declined."""
    if request.flash_key != OFFER_PASSKEY or request.registry.relying_party is None:
        return False
    return may_set_up(request) and users.may_offer_passkey(request.db, request.identity.id)


def _store_profile(request: Any, name: str, email: str) -> str:
    """Store the name and the address, or send a link to another address; return the flash message.

    Raises EmailTaken, but only if no mail is sent.
    """
    session, message = request.login_session, "profile_changed"
    if email != session.user.email and request.registry.hello_login.sends_mail:
        accounts.ask_for_address(request.actor, session.user, email)
        request.wake_sender_after_commit()
        email, message = session.user.email, "link_sent"
    accounts.change_profile(request.actor, session, name=name, email=email)
    return message
