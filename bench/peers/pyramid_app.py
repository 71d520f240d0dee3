"""The login as the cookiecutter begins it: SQLAlchemy, pyramid_tm, cookies with a ticket."""

import os
from datetime import datetime, timezone
from typing import Any

import common
import passwords
import zope.sqlalchemy
from models import Event, LoginSession, User
from pyramid.authentication import AuthTktCookieHelper
from pyramid.config import Configurator
from pyramid.csrf import CookieCSRFStoragePolicy, get_csrf_token, new_csrf_token
from pyramid.httpexceptions import HTTPForbidden, HTTPSeeOther
from pyramid.renderers import render_to_response
from pyramid.request import RequestLocalCache
from pyramid.security import forget, remember
from pyramid.view import forbidden_view_config, view_config
from sqlalchemy import (
    URL,
    create_engine,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

MONTH = 30 * 24 * 60 * 60  # seconds


class SecurityPolicy:
    """Who asks, as the ticket in the cookie says."""

    def __init__(self, secret: str) -> None:
        self._ticket = AuthTktCookieHelper(
            secret, http_only=True, samesite="Lax", wild_domain=False
        )
        self._identities = RequestLocalCache(self._load_identity)

    def _load_identity(self, request: Any) -> User | None:
        ticket = self._ticket.identify(request)
        return request.dbsession.get(User, ticket["userid"]) if ticket else None

    def identity(self, request: Any) -> User | None:
        """The user, read once in a request."""
        return self._identities.get_or_create(request)

    def authenticated_userid(self, request: Any) -> int | None:
        """The user's id, if there still is such a user."""
        user = self.identity(request)
        return user.id if user else None

    def remember(self, request: Any, userid: int, **more: Any) -> Any:
        """Headers to log in."""
        return self._ticket.remember(request, userid, **more)

    def forget(self, request: Any, **more: Any) -> Any:
        """Headers to log out."""
        return self._ticket.forget(request, **more)


def page(request: Any, **more: Any) -> dict[str, Any]:
    """What a template needs; in their dialect, the token is no function."""
    token = common.Lazy(lambda: get_csrf_token(request))
    return {"user": request.identity, "csrf_token": token, **more}


@view_config(route_name="greeting")
def greet(request: Any) -> Any:
    """JSON for programs, a page for browsers."""
    if "text/html" in request.headers.get("Accept", ""):
        return render_to_response("home.html", page(request, greeting=common.GREETING), request)
    return render_to_response("json", {"answer": common.GREETING}, request)


@view_config(route_name="healthz", renderer="json")
def is_alive(_request: Any) -> Any:
    """The process answers."""
    return {"status": "ok"}


@view_config(route_name="register", request_method="GET", renderer="register.html")
def show_registration(request: Any) -> Any:
    """The form."""
    return page(request, values={}, errors={})


@view_config(route_name="register", request_method="POST", renderer="register.html")
def register(request: Any) -> Any:
    """A new account, logged in."""
    form = request.POST
    name, email = form.get("name", "").strip(), form.get("email", "").strip()
    password = form.get("password", "")
    errors = common.registration_errors(name, email, password, form.get("confirm", ""))
    if not errors:
        user = User(name=name, email=email, password_hash=passwords.hash_password(password))
        request.dbsession.add(user)
        try:
            request.dbsession.flush()
        except IntegrityError:
            request.tm.doom()
            errors = common.TAKEN
        else:
            return begin_session(request, user, "/account")
    request.response.status_int = 422
    return page(request, values=form, errors=errors)


@view_config(route_name="login", request_method="GET", renderer="login.html")
def show_login(request: Any) -> Any:
    """The form."""
    return page(request, values=request.GET, errors={})


@view_config(route_name="login", request_method="POST", renderer="login.html")
def log_in(request: Any) -> Any:
    """A new session, and on to where the person wanted to go."""
    form = request.POST
    email = form.get("email", "").strip().lower()
    user = request.dbsession.scalar(select(User).where(func.lower(User.email) == email))
    if user and passwords.matches(user.password_hash, form.get("password", "")):
        target = common.local_path(form.get("next"))
        return begin_session(request, user, target, MONTH if "remember" in form else None)
    request.response.status_int = 422
    return page(request, values=form, errors=common.REFUSED)


@view_config(route_name="logout", request_method="POST")
def log_out(request: Any) -> Any:
    """End the session."""
    return HTTPSeeOther("/", headers=forget(request))


@view_config(route_name="account", renderer="account.html")
def show_account(request: Any) -> Any:
    """Who you are, where you are logged in, and what happened."""
    user = request.identity
    if user is None:
        raise HTTPForbidden
    sessions = request.dbsession.scalars(
        select(LoginSession).where(
            LoginSession.user_id == user.id, LoginSession.expires_at > func.now()
        )
    ).all()
    events = request.dbsession.scalars(
        select(Event)
        .where(Event.user_id == user.id)
        .order_by(Event.happened_at.desc(), Event.id.desc())
        .limit(100)
    ).all()
    return page(request, sessions=sessions, events=events[:10])


@forbidden_view_config()
def ask_to_log_in(request: Any) -> Any:
    """Whoever is not logged in may log in and come back."""
    return HTTPSeeOther(request.route_path("login", _query={"next": request.path_qs}))


def begin_session(request: Any, user: User, target: str, max_age: int | None = None) -> Any:
    """Log the user in, and note it."""
    now, address = datetime.now(timezone.utc), request.remote_addr
    user.last_login_at = now
    request.dbsession.add_all(
        [
            LoginSession(
                id=os.urandom(32),
                user_id=user.id,
                idle_limit=common.IDLE_LIMIT,
                expires_at=now + common.LIFETIME,
                address=address,
                device="Unknown device",
            ),
            Event(event="logged_in", user_id=user.id, address=address),
        ]
    )
    new_csrf_token(request)
    return HTTPSeeOther(target, headers=remember(request, user.id, max_age=max_age))


def main() -> Any:
    """The WSGI application."""
    settings = {
        "tm.manager_hook": "pyramid_tm.explicit_manager",
        "tm.annotate_user": False,  # it would read the user for each request, needed or not
        "jinja2.filters": common.FILTERS,
        "jinja2.directories": "templates",
    }
    with Configurator(settings=settings) as config:
        config.include("pyramid_jinja2")
        config.include("pyramid_tm")
        config.add_jinja2_renderer(".html")

        engine = create_engine(URL.create("postgresql+psycopg2", **common.DATABASE))
        new_session = sessionmaker(engine)

        def dbsession(request: Any) -> Any:
            session = new_session()
            zope.sqlalchemy.register(session, transaction_manager=request.tm)
            return session

        config.add_request_method(dbsession, reify=True)
        config.set_security_policy(SecurityPolicy(common.SECRET_KEY))
        config.set_csrf_storage_policy(CookieCSRFStoragePolicy(httponly=True))
        config.set_default_csrf_options(require_csrf=True)
        config.add_route("greeting", "/")
        for name in ("healthz", "register", "login", "logout", "account"):
            config.add_route(name, f"/{name}")
        config.scan(__name__)
    return config.make_wsgi_app()


app = main()
