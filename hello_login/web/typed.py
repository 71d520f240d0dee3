"""Keeps the text that was typed into a form that was not processed, and fills the form with it.

A form may have expired, its session may have ended, or the database may be unreachable.  A cookie
then keeps the fields that are no secrets, encrypted, until the form is opened again.
"""

import hashlib
import json
from datetime import timedelta
from typing import Any

from webob.multidict import MultiDict

from ..auth.totp import SecretBox, SecretUnreadable
from .cookies import delete_cookie, get_cookie, set_cookie
from .csrf import was_sent_by_own_page

KEPT_FIELDS = ("name", "email", "remember")

MAX_KEPT_LENGTH = 254
"""Characters of a field.  No form takes more."""

MAX_COOKIE_LENGTH = 1300
"""Characters.  The longest name and an address of ASCII fit.  With a redirect to the longest URL,
the response's headers stay under the 4,096 bytes that many proxies accept."""

LIFETIME = timedelta(minutes=10)

NOBODY = 0
"""SecretBox ties a secret to an account.  A typed text belongs to none."""


def includeme(config: Any) -> None:
    """Add request.typed: the fields of the posted form, or those to fill the shown form with."""
    keys = config.registry.hello_login.secret_keys
    config.registry.typed_texts = SecretBox(keys, "typed")
    config.add_request_method(_find_typed, "typed", reify=True)


def keep_typed(request: Any, response: Any, path: str | None = None) -> None:
    """Keep the fields of the posted form in a cookie of the response.

    path: the URL's path of the form to fill.  None: that of the request.
    Nothing is kept unless the browser says that a page of this site sent the form: otherwise,
    another site could fill in a form.
    """
    if not was_sent_by_own_page(request):
        return
    fields = {
        name: request.POST[name]
        for name in KEPT_FIELDS
        if 0 < len(request.POST.get(name, "")) <= MAX_KEPT_LENGTH
    }
    if fields:
        text = json.dumps([_hash(path or request.path), fields], ensure_ascii=False)
        encrypted = request.registry.typed_texts.encrypt(NOBODY, text.encode())
        if len(encrypted) <= MAX_COOKIE_LENGTH:
            max_age = int(LIFETIME.total_seconds())
            set_cookie(request, response, "typed", encrypted.decode(), max_age)


def _find_typed(request: Any) -> Any:
    """Return the fields of the posted form, or those that were kept for this page, or none."""
    if request.method == "POST":
        return request.POST
    try:
        encrypted = get_cookie(request, "typed").encode()
        kept = request.registry.typed_texts.decrypt(NOBODY, encrypted, LIFETIME)
    except SecretUnreadable:
        return MultiDict()
    page, fields = json.loads(kept)
    if page != _hash(request.path):
        return MultiDict()
    delete_cookie(request, "typed")
    return MultiDict(fields)


def _hash(path: str) -> str:
    """Return a hash of a path, which may contain the token of a link."""
    return hashlib.sha256(path.encode()).hexdigest()
