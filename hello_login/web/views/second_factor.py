"""The views of the authenticator app and the recovery codes."""

from typing import Any

import segno
from markupsafe import Markup

from ...auth import second_factor, sessions, totp
from ...auth.second_factor import CodeRefused
from ...repositories import recovery_codes
from .. import forms
from . import admit, form_context, form_view, show_code_refused
from .confirm import find_factors, form_or_redirect, redirect_too_late, renew_session
from .flash import MESSAGES, redirect

SETUP_EXPIRED = (
    "This page was open for too long, so it shows another QR code now. Scan that one, and type the "
    "code that your app shows for it."
)


@form_view("totp", "totp", permission="logged_in", fresh=True)
def set_up_totp(request: Any) -> Any:
    """Show a new secret, and the form for its first code; on POST, add the app.

    Other sessions end.  With mail, the address must be confirmed first.
    """
    form = forms.TotpForm(request.POST)
    if find_factors(request).app_added_at is not None:
        return form_context(request, form, state="on")
    if not may_set_up(request):
        return form_context(request, form, state="unconfirmed")
    secret, is_new = _open_setup(request, form)
    if request.method == "POST" and form.validate():
        if is_new:
            form.code.errors = [SETUP_EXPIRED]
        elif admit_change(request, form):
            return _add_app(request, form, secret)
    return _show_secret(request, form, secret)


def may_set_up(request: Any) -> bool:
    """Return whether the user may add a second factor.

    If mail is sent, the address must be confirmed, or nobody could tell the owner of a change.
    """
    return bool(request.identity.confirmed_at or not request.registry.hello_login.sends_mail)


def admit_change(request: Any, form: forms.Form) -> bool:
    """Count a change of the second factors; add an error to the form if there were too many."""
    count = request.rate_limiter.admit_factor_change
    return admit(request, form, count, request.login_session.user.id)


def _add_app(request: Any, form: forms.TotpForm, secret: bytes) -> Any:
    """Add the app if the code is right, and show the recovery codes if there are new ones."""
    session, box = request.login_session, request.registry.totp_secrets
    if not sessions.lock_live(request.db, session):
        return redirect_too_late(request)
    try:
        codes = second_factor.add_app(request.actor, box, session, secret, form.code.data or "")
        # The failures with an earlier app do not count for a new one.
        request.rate_limiter.reset_codes(request.db, session.user.id)
    except CodeRefused as refused:
        show_code_refused(request, form, refused)
        return _show_secret(request, form, secret)
    if codes:
        return show_recovery_codes(request, codes, "app_added")
    headers = renew_session(request)
    return redirect(request, request.route_path("account"), "app_added", headers)


def _show_secret(request: Any, form: forms.TotpForm, secret: bytes) -> Any:
    """Return the context of the form, with the secret as a picture and as text."""
    user = request.identity
    uri = totp.make_uri(secret, issuer=request.registry.hello_login.site_name, account=user.email)
    # Phones read only dark squares on a light ground.
    picture = segno.make(uri, error="m").svg_inline(
        dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None
    )
    text = " ".join(_in_groups(totp.as_text(secret)))
    values = {"picture": Markup(picture), "secret": text, "state": "off"}  # noqa: S704 - segno's
    return form_or_redirect(request, form, **values)


def _open_setup(request: Any, form: forms.TotpForm) -> tuple[bytes, bool]:
    """Return the secret of the posted form, and False.

    If the form has no secret that can be decrypted, store a new one in it, and return the new one
    and True.
    """
    box, user_id = request.registry.totp_setup, request.identity.id
    sealed = (form.setup.data or "")[: forms.MAX_SETUP_LENGTH].encode("ascii", "replace")
    try:
        return box.decrypt(user_id, sealed, second_factor.SETUP_LIFETIME), False
    except totp.SecretUnreadable:
        secret = totp.make_secret()
        form.setup.data = box.encrypt(user_id, secret).decode()
        return secret, True


@form_view("remove_totp", "remove_totp", fresh=True)
def remove_totp(request: Any) -> Any:
    """Ask whether to remove the app; on POST, remove it, and end all other sessions."""
    session, form = request.login_session, forms.Form(request.POST)
    has_passkeys = bool(find_factors(request).passkeys)
    if request.method == "POST" and admit_change(request, form):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        removed = second_factor.remove_app(request.actor, session)
        message = "app_removed" if removed else "no_app"
        headers = renew_session(request)
        return redirect(request, request.route_path("account"), message, headers)
    return form_or_redirect(request, form, has_passkeys=has_passkeys)


@form_view("recovery_codes", "recovery_codes", fresh=True)
def make_recovery_codes(request: Any) -> Any:
    """Show the number of recovery codes; on POST, replace them, and show the new ones once."""
    session, form = request.login_session, forms.Form(request.POST)
    if not session.has_second_factor:
        return redirect(request, request.route_path("account"), "no_factor")
    if request.method == "POST" and admit_change(request, form):
        if not sessions.lock_live(request.db, session):
            return redirect_too_late(request)
        return show_recovery_codes(
            request, second_factor.make_recovery_codes(request.actor, session)
        )
    left = recovery_codes.count(request.db, session.user.id)
    return form_context(request, form, codes=[], left=left)


def show_recovery_codes(request: Any, codes: list[str], message: str = "") -> Any:
    """Return the context of the page with new recovery codes, and renew the session.

    message: the key in MESSAGES of the change that came with the codes, or "".
    The page shows no form, because the CSRF token changes with the session.  So a reload is
    refused, and does not replace the codes.
    """
    address, headers = request.identity.email, renew_session(request)
    request.response.headerlist.extend(headers)
    request.override_renderer = "hello_login.web:templates/recovery_codes.jinja2"
    return {
        "codes": ["-".join(_in_groups(code)) for code in codes],
        "address": address,
        "message": MESSAGES.get(message),
        "form": forms.Form(),  # The script of forms makes a reload a GET request.
    }


def _in_groups(text: str) -> list[str]:
    """Return the text in pieces of four characters, which people type with fewer mistakes."""
    return [text[i : i + 4] for i in range(0, len(text), 4)]
