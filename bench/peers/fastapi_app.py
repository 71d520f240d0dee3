"""The login with FastAPI, asynchronous SQLAlchemy on asyncpg, and a session in a signed cookie."""

import os
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import common
import passwords
from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader
from models import Event, LoginSession, User
from sqlalchemy import URL, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.middleware.sessions import SessionMiddleware

# A fixed pool, for those beyond it would be opened and closed again and again.
engine = create_async_engine(
    URL.create("postgresql+asyncpg", **common.DATABASE), pool_size=10, max_overflow=0
)
new_session = async_sessionmaker(engine, expire_on_commit=False)


async def open_session() -> AsyncIterator[AsyncSession]:
    """The request's session, which takes a connection when it is first used."""
    async with new_session() as session:
        yield session


async def check_csrf(request: Request, csrf_token: Annotated[str, Form()] = "") -> None:
    """Refuse a form that is not of this session."""
    expected = request.session.get("csrf_token", "")
    if not expected or not secrets.compare_digest(expected.encode(), csrf_token.encode()):
        raise HTTPException(400, "This form has expired")


Database = Annotated[AsyncSession, Depends(open_session)]
Field = Annotated[str, Form()]
FORM = [Depends(check_csrf)]

app = FastAPI(openapi_url=None)
app.add_middleware(SessionMiddleware, secret_key=common.SECRET_KEY)


def _csrf_token(session: dict[str, Any]) -> str:
    if "csrf_token" not in session:
        session["csrf_token"] = secrets.token_urlsafe()
    return str(session["csrf_token"])


templates = Jinja2Templates(
    env=Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        auto_reload=False,
    ),
    # In the dialect of the templates, the token is no function.
    context_processors=[
        lambda request: {"csrf_token": common.Lazy(lambda: _csrf_token(request.session))}
    ],
)
templates.env.filters.update(common.FILTERS)


async def load_user(request: Request, db: AsyncSession) -> User | None:
    """The user whose id is in the session."""
    user_id = request.session.get("user_id")
    return await db.get(User, user_id) if user_id else None


async def page(
    request: Request, db: AsyncSession, name: str, *, status: int = 200, **more: Any
) -> Response:
    """A page, which says who is logged in."""
    user = await load_user(request, db)
    return templates.TemplateResponse(request, name, {"user": user, **more}, status_code=status)


@app.get("/")
async def greet(request: Request, db: Database) -> Response:
    """JSON for programs, a page for browsers."""
    if "text/html" in request.headers.get("accept", ""):
        return await page(request, db, "home.html", greeting=common.GREETING)
    return JSONResponse({"answer": common.GREETING})


@app.get("/healthz")
async def is_alive() -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@app.get("/register")
async def show_registration(request: Request, db: Database) -> Response:
    """The form."""
    return await page(request, db, "register.html", values={}, errors={})


@app.post("/register", dependencies=FORM)
async def register(
    request: Request,
    db: Database,
    name: Field = "",
    email: Field = "",
    password: Field = "",
    confirm: Field = "",
) -> Response:
    """A new account, logged in."""
    name, email = name.strip(), email.strip()
    errors = common.registration_errors(name, email, password, confirm)
    if not errors:
        password_hash = await run_in_threadpool(passwords.hash_password, password)
        user = User(name=name, email=email, password_hash=password_hash)
        db.add(user)
        try:
            await db.flush()
        except IntegrityError:
            await db.rollback()
            errors = common.TAKEN
        else:
            return await begin_session(request, db, user, "/account")
    values = {"name": name, "email": email}
    return await page(request, db, "register.html", status=422, values=values, errors=errors)


@app.get("/login")
async def show_login(request: Request, db: Database) -> Response:
    """The form."""
    return await page(request, db, "login.html", values=request.query_params, errors={})


@app.post("/login", dependencies=FORM)
async def log_in(
    request: Request,
    db: Database,
    email: Field = "",
    password: Field = "",
    next: Field = "",  # noqa: A002
) -> Response:
    """A new session, and on to where the person wanted to go."""
    user = await db.scalar(select(User).where(func.lower(User.email) == email.strip().lower()))
    if user and await run_in_threadpool(passwords.matches, user.password_hash, password):
        return await begin_session(request, db, user, common.local_path(next))
    values = {"email": email, "next": next}
    return await page(request, db, "login.html", status=422, values=values, errors=common.REFUSED)


@app.post("/logout", dependencies=FORM)
async def log_out(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return RedirectResponse("/", 303)


@app.get("/account")
async def show_account(request: Request, db: Database) -> Response:
    """Who you are, where you are logged in, and what happened."""
    user = await load_user(request, db)
    if user is None:
        return RedirectResponse("/login?next=/account", 303)
    sessions = await db.scalars(
        select(LoginSession).where(
            LoginSession.user_id == user.id, LoginSession.expires_at > func.now()
        )
    )
    events = await db.scalars(
        select(Event)
        .where(Event.user_id == user.id)
        .order_by(Event.happened_at.desc(), Event.id.desc())
        .limit(100)
    )
    context = {"user": user, "sessions": sessions.all(), "events": events.all()[:10]}
    return templates.TemplateResponse(request, "account.html", context)


async def begin_session(request: Request, db: AsyncSession, user: User, target: str) -> Response:
    """Log the user in, and note it."""
    now, address = datetime.now(timezone.utc), request.client.host if request.client else None
    user.last_login_at = now
    db.add_all(
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
    await db.commit()
    request.session.clear()
    request.session["user_id"] = user.id
    return RedirectResponse(target, 303)
