"""The view that judges a new password while it is typed."""

from typing import Any

from pyramid.security import NO_PERMISSION_REQUIRED
from pyramid.view import view_config

from ...auth.passwords import PasswordRefused
from ..forms import MAX_EMAIL_LENGTH

MAX_PERSONAL = 2
"""Texts: a name, and an address, which may be that of the hidden field for password managers."""


@view_config(
    route_name="check_password",
    renderer="json",
    permission=NO_PERMISSION_REQUIRED,
    require_methods=("POST",),
)
def check_password(request: Any) -> dict[str, str | None]:
    """Return the reason to refuse the posted password as a new one, or None.  Store nothing.

    The form's own check decides.  This check knows only the texts on the page and the owner of the
    session.
    """
    personal = [text[:MAX_EMAIL_LENGTH] for text in request.POST.getall("personal")[:MAX_PERSONAL]]
    user = request.identity
    if user is not None:
        personal += [user.name, user.email]
    try:
        request.registry.passwords.check(request.POST.get("password", ""), *personal)
    except PasswordRefused as refused:
        return {"problem": str(refused)}
    return {"problem": None}
