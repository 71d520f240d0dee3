"""Flash messages: a redirect sets one, and the next page shows it once.

The cookie holds a key of MESSAGES instead of text, so nobody can make a page show other text.
"""

from collections.abc import Iterable
from typing import Any

from pyramid.httpexceptions import HTTPSeeOther

from ..cookies import delete_cookie, get_cookie, set_cookie

MESSAGES = {
    "registered": "Welcome! Your account is ready, and you are logged in.",
    "logged_out": "You are logged out.",
    "profile_changed": "Your changes are saved.",
    "password_changed": "Your password is changed, and all your other sessions have ended.",
    "session_ended": "That session has ended.",
    "sessions_ended": "All your other sessions have ended.",
    "password_reset": "Your new password is set, and all sessions have ended. Log in with it.",
    "link_sent": "We have sent you a mail. Open the link in it to confirm the address.",
    "address_changed": "Your address is confirmed.",
    "too_many_mails": "Too many mails were asked for. Try again in an hour.",
    "deleted": "Your account is deleted.",
    "session_over": "You had been logged out, so this may not have been saved. Log in and check.",
    "login_expired": "That login took too long, or was ended. Log in again.",
    "login_not_fresh": "Nothing was changed. Confirm that it is you, then make the change again.",
    "factor_required": "This site requires a second step at each login. Set it up to go on.",
    "app_added": "The app is added, and all your other sessions have ended.",
    "app_removed": "The app is removed, and all your other sessions have ended.",
    "no_app": "Nothing was changed: you have no authenticator app here.",
    "no_factor": "Nothing was changed: your logins take one step.",
    "passkey_added": "The passkey is added. You can log in with it from now on.",
    "first_passkey_added": "The passkey is added, and all your other sessions have ended.",
    "passkey_renamed": "The passkey has a new name.",
    "passkey_removed": "The passkey is removed, and all your other sessions have ended.",
    "no_passkey": "Nothing was changed: there is no such passkey.",
    "too_many_passkeys": "You have as many passkeys as an account can have. Remove one first.",
    "passkey_declined": "We will not suggest a passkey again.",
    "codes_left_0": "You have no recovery codes left. Make new ones on the page of your account.",
    "codes_left_1": "You have 1 recovery code left. Make new ones on the page of your account.",
    **{
        f"codes_left_{number}": f"You have {number} recovery codes left." for number in range(2, 10)
    },
    "too_late": "Nothing was changed now: your session had ended, or this was done already.",
}

OFFER_PASSKEY = "offer_passkey"
"""A key without a message: the account page offers a passkey, and other pages show nothing."""

LIFETIME = 60
"""Seconds until a message that was not shown expires."""


def includeme(config: Any) -> None:
    """Add request.flash, the message to show on this page, or None; and its key."""
    config.add_request_method(_take, "flash_key", reify=True)
    config.add_request_method(lambda request: MESSAGES.get(request.flash_key), "flash", reify=True)


def redirect(
    request: Any, url: str, message: str, headers: Iterable[tuple[str, str]] = ()
) -> HTTPSeeOther:
    """Return a redirect to the URL, whose page will show MESSAGES[message]."""
    response = HTTPSeeOther(url, headers=list(headers))
    set_cookie(request, response, "flash", message, LIFETIME)
    return response


def _take(request: Any) -> str:
    """Return the key of the message, or "", and delete its cookie."""
    message = get_cookie(request, "flash")
    delete_cookie(request, "flash")
    return message
