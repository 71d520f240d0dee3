"""The views of the user's own passkeys."""

from typing import Any

from pyramid.httpexceptions import HTTPNotFound
from pyramid.view import view_config

from ...auth import passkeys, sessions
from ...auth.ceremonies import Ceremony, RelyingParty
from ...auth.second_factor import Factors
from ...auth.webauthn import read_id
from ...repositories import passkeys as table
from ...repositories import users
from ...repositories.passkeys import Passkey
from .. import forms
from . import admit, begin_ceremony, form_context, form_view, show_passkey_errors
from .confirm import find_factors, form_or_redirect, redirect_too_late, renew_session
from .flash import redirect
from .second_factor import admit_change, may_set_up, show_recovery_codes


def signal_passkeys(request: Any, factors: Factors) -> str | None:
    """Return the page's signals to the browser about the user's passkeys, or None."""
    site: RelyingParty | None = request.registry.relying_party
    if site is None or factors.handle is None:
        return None
    return site.signal_known(request.identity, factors.handle, factors.passkeys)


@view_config(route_name="passkeys", renderer="hello_login.web:templates/passkeys.jinja2")
def list_passkeys(request: Any) -> Any:
    """Show the user's passkeys."""
    factors = find_factors(request)
    signals = signal_passkeys(request, factors)
    return {"passkeys": factors.passkeys, "signals": signals}


@form_view("add_passkey", "add_passkey", permission="logged_in", fresh=True)
def add_passkey(request: Any) -> Any:
    """Let the browser make a passkey; on POST, add it.

    With mail, the address must be confirmed first.
    """
    ceremony, form = begin_ceremony(request, "add"), forms.PasskeyForm(request.POST)
    if ceremony is None:
        raise HTTPNotFound
    if not may_set_up(request):
        return form_context(request, form, options=None)
    user, factors = request.identity, find_factors(request)
    if len(factors.passkeys) >= passkeys.MAX_PASSKEYS:
        return redirect(request, request.route_path("passkeys"), "too_many_passkeys")
    if request.method == "POST" and admit_change(request, form):
        response = _add(request, form, ceremony)
        if response is not None:
            return response
    passkey_id = read_id(form.credential.data or "")
    if passkey_id and table.get(request.db, passkey_id) is None:
        # The authenticator keeps the passkey, so the browser is told that this site does not.
        form.signals = ceremony.site.signal_unknown(passkey_id)
    handle = factors.handle or users.make_handle(request.db, user.id)
    options = ceremony.creation_options(user, handle, factors.passkeys)
    return form_or_redirect(request, form, options=options)


def _add(request: Any, form: forms.PasskeyForm, ceremony: Ceremony) -> Any:
    """Add the passkey.  Returns the response, or None with an error in the form."""
    session, credential = request.login_session, form.credential.data or ""
    if not sessions.lock_live(request.db, session):
        return redirect_too_late(request)
    with show_passkey_errors(request, form):
        codes = passkeys.add(request.actor, ceremony, session, credential)
        if codes:
            return show_recovery_codes(request, codes, "first_passkey_added")
        headers = renew_session(request)
        return redirect(request, request.route_path("passkeys"), "passkey_added", headers)
    return None


@form_view("rename_passkey", "rename_passkey")
def rename_passkey(request: Any) -> Any:
    """Show the form for another name of a passkey; on POST, store it."""
    session, passkey = request.login_session, _find(request, find_factors(request))
    form = forms.PasskeyNameForm(request.typed, obj=passkey)
    # A new name needs no fresh login, so the limit is the session's, not the account's.
    count = request.rate_limiter.admit_profile_change
    if request.method == "POST" and form.validate() and admit(request, form, count, session):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        renamed = passkeys.rename(request.actor, session, passkey, form.name.data or "")
        message = "passkey_renamed" if renamed else "no_passkey"
        return redirect(request, request.route_path("passkeys"), message)
    return form_or_redirect(request, form)


@form_view("remove_passkey", "remove_passkey", fresh=True)
def remove_passkey(request: Any) -> Any:
    """Ask whether to remove a passkey; on POST, remove it, and end all other sessions."""
    session, form = request.login_session, forms.Form(request.POST)
    factors = find_factors(request)
    passkey = _find(request, factors)
    if request.method == "POST" and admit_change(request, form):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        removed = passkeys.remove(request.actor, session, passkey)
        message = "passkey_removed" if removed else "no_passkey"
        headers = renew_session(request)
        return redirect(request, request.route_path("passkeys"), message, headers)
    is_last = len(factors.passkeys) == 1 and factors.app_added_at is None
    return form_or_redirect(request, form, passkey=passkey, is_last=is_last)


def _find(request: Any, factors: Factors) -> Passkey:
    """Return the user's passkey that the URL names.

    Raises HTTPSeeOther, to the list, if there is none: it may have been removed meanwhile.
    """
    for passkey in factors.passkeys:
        if passkey.fingerprint == request.matchdict["passkey"]:
            return passkey
    raise redirect(request, request.route_path("passkeys"), "no_passkey")


@view_config(route_name="decline_passkey", require_methods=("POST",))
def decline_passkey(request: Any) -> Any:
    """Store that the user wants no more offers of a passkey."""
    users.decline_passkey(request.db, request.identity.id)
    return redirect(request, request.route_path("account"), "passkey_declined")
