"""Register."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED, remember
from pyramid.view import view_config

from .. import accounts
from ..forms import RegisterForm


@view_config(
    route_name="register",
    renderer="register.jinja2",
    permission=NO_PERMISSION_REQUIRED,
    require_methods=("GET", "HEAD", "POST"),
)
def register(request: Any) -> Any:
    """The form; posted, a new account, logged in."""
    account = request.route_path("account")
    if request.identity is not None:
        return HTTPSeeOther(account)
    passwords = request.registry.passwords
    form = RegisterForm(request.POST, passwords)
    if request.method != "POST":
        return {"form": form, "advice": passwords.advice}
    if form.validate():
        try:
            user_id = accounts.register(
                request.db,
                passwords,
                name=form.name.data or "",
                email=form.email.data or "",
                password=form.password.data or "",
            )
        except accounts.EmailTaken:
            form.email.errors = ["This address has an account already: log in, or use another."]
        else:
            return HTTPSeeOther(account, headers=remember(request, user_id))
    request.response.status_int = 422
    return {"form": form, "advice": passwords.advice}
