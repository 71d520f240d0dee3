"""Log in and log out."""

import logging
from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED, forget, remember
from pyramid.view import view_config

from .. import accounts
from ..forms import LoginForm
from ..security import local_path

log = logging.getLogger(__name__)

REFUSED = "No account has this address and this password. Check both, and try again."


@view_config(
    route_name="login",
    renderer="login.jinja2",
    permission=NO_PERMISSION_REQUIRED,
    require_methods=("GET", "HEAD", "POST"),
)
def log_in(request: Any) -> Any:
    """The form; posted, a new session, and on to where the person wanted to go."""
    form = LoginForm(request.POST, data={"next": request.GET.get("next")})
    target = local_path(form.next.data) or request.route_path("account")
    if request.identity is not None:
        return HTTPSeeOther(target)
    if request.method != "POST":
        return {"form": form}
    if form.validate():
        user_id = accounts.authenticate(
            request.db,
            request.registry.passwords,
            email=form.address(),
            password=form.password.data or "",
        )
        if user_id is not None:
            log.info("Account %s logged in from %s", user_id, request.remote_addr)
            headers = remember(request, user_id, remembered=form.remember.data)
            return HTTPSeeOther(target, headers=headers)
        # Not the address that was typed: it may be a password.
        log.info("A login was refused from %s", request.remote_addr)
        form.form_errors = [REFUSED]
    request.response.status_int = 422
    return {"form": form}


@view_config(route_name="logout", permission=NO_PERMISSION_REQUIRED, require_methods=("POST",))
def log_out(request: Any) -> Any:
    """End the session; whoever has none is logged out already."""
    headers = forget(request)
    # ASVS 5.0, 14.3.1.  Not "cookies": it would take those of every site under the same domain.
    headers.append(("Clear-Site-Data", '"cache", "storage"'))
    return HTTPSeeOther(request.route_path("greeting"), headers=headers)
