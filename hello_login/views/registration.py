"""Register."""

from typing import Any

from pyramid.httpexceptions import HTTPSeeOther
from pyramid.security import NO_PERMISSION_REQUIRED, remember
from pyramid.view import view_config

from ..accounts import EmailTaken, Refused
from ..forms import RegisterForm
from . import FORM, ask_to_wait, show


@view_config(
    route_name="register",
    renderer="hello_login:templates/register.jinja2",
    permission=NO_PERMISSION_REQUIRED,
    require_methods=FORM,
)
def register(request: Any) -> Any:
    """The form; posted, a new account, logged in."""
    account = request.route_path("account")
    if request.identity is not None:
        return HTTPSeeOther(account)
    passwords = request.registry.passwords
    form = RegisterForm(request.POST, passwords)
    if request.method == "POST" and form.validate():
        try:
            request.accounts.admit_registration()
            user_id = request.accounts.register(
                name=form.name.data or "",
                email=form.email.data or "",
                password=form.password.data or "",
            )
        except Refused as refused:
            ask_to_wait(request, form, refused.wait)
        except EmailTaken:
            form.email.errors = ["This address has an account already: log in, or use another."]
        else:
            return HTTPSeeOther(account, headers=remember(request, user_id))
    return show(request, form, advice=passwords.advice)
