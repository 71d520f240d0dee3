"""The login with Flask, Flask-Login, Flask-SQLAlchemy and Flask-WTF."""

import os
from datetime import datetime, timedelta, timezone
from typing import Any

import common
import passwords
from flask import Flask, jsonify, redirect, render_template, request
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
)
from flask_sqlalchemy import SQLAlchemy
from flask_wtf.csrf import CSRFProtect, generate_csrf
from sqlalchemy import URL, BigInteger, DateTime, ForeignKey, LargeBinary, Text, func, select
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry


class Base(DeclarativeBase):
    """The columns' types are the tables'."""

    registry = registry(
        type_annotation_map={int: BigInteger, str: Text, datetime: DateTime(timezone=True)}
    )


app = Flask(__name__, static_folder=None)
app.config["SECRET_KEY"] = common.SECRET_KEY
app.config["SQLALCHEMY_DATABASE_URI"] = URL.create("postgresql+psycopg2", **common.DATABASE)
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
app.jinja_env.filters.update(common.FILTERS)
db = SQLAlchemy(app, model_class=Base)
CSRFProtect(app)
logins = LoginManager(app)
logins.login_view = "log_in"
logins.login_message = ""  # the pages show no flashed messages


class User(UserMixin, db.Model):
    """An account."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None]


class LoginSession(db.Model):
    """Where somebody is logged in."""

    __tablename__ = "sessions"
    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    idle_limit: Mapped[timedelta]
    expires_at: Mapped[datetime]
    remembered: Mapped[bool] = mapped_column(default=False)
    address: Mapped[str | None] = mapped_column(INET)
    device: Mapped[str]


class Event(db.Model):
    """What happened to an account."""

    __tablename__ = "account_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    event: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    address: Mapped[str | None] = mapped_column(INET)


@logins.user_loader
def load_user(user_id: str) -> User | None:
    """The user whose id is in the session."""
    return db.session.get(User, int(user_id))


@app.context_processor
def lend_to_templates() -> dict[str, Any]:
    """In the dialect of the templates, the token is no function."""
    return {"user": current_user, "csrf_token": common.Lazy(generate_csrf)}


@app.get("/")
def greet() -> Any:
    """JSON for programs, a page for browsers."""
    if "text/html" in request.headers.get("Accept", ""):
        return render_template("home.html", greeting=common.GREETING)
    return jsonify(answer=common.GREETING)


@app.get("/healthz")
def is_alive() -> Any:
    """The process answers."""
    return jsonify(status="ok")


@app.route("/register", methods=["GET", "POST"])
def register() -> Any:
    """The form; posted, a new account, logged in."""
    if request.method == "GET":
        return render_template("register.html", values={}, errors={})
    form = request.form
    name, email = form.get("name", "").strip(), form.get("email", "").strip()
    password = form.get("password", "")
    errors = common.registration_errors(name, email, password, form.get("confirm", ""))
    if not errors:
        user = User(name=name, email=email, password_hash=passwords.hash_password(password))
        db.session.add(user)
        try:
            db.session.flush()
        except IntegrityError:
            db.session.rollback()
            errors = common.TAKEN
        else:
            return begin_session(user, "/account")
    return render_template("register.html", values=form, errors=errors), 422


@app.route("/login", methods=["GET", "POST"])
def log_in() -> Any:
    """The form; posted, a new session, and on to where the person wanted to go."""
    if request.method == "GET":
        return render_template("login.html", values=request.args, errors={})
    form = request.form
    email = form.get("email", "").strip().lower()
    user = db.session.scalar(select(User).where(func.lower(User.email) == email))
    if user and passwords.matches(user.password_hash, form.get("password", "")):
        target = common.local_path(form.get("next"))
        return begin_session(user, target, remember="remember" in form)
    return render_template("login.html", values=form, errors=common.REFUSED), 422


@app.post("/logout")
def log_out() -> Any:
    """End the session."""
    logout_user()
    return redirect("/", 303)


@app.get("/account")
@login_required
def show_account() -> Any:
    """Who you are, where you are logged in, and what happened."""
    sessions = db.session.scalars(
        select(LoginSession).where(
            LoginSession.user_id == current_user.id, LoginSession.expires_at > func.now()
        )
    ).all()
    events = db.session.scalars(
        select(Event)
        .where(Event.user_id == current_user.id)
        .order_by(Event.happened_at.desc(), Event.id.desc())
        .limit(100)
    ).all()
    return render_template("account.html", sessions=sessions, events=events[:10])


def begin_session(user: User, target: str, *, remember: bool = False) -> Any:
    """Log the user in, and note it."""
    now, address = datetime.now(timezone.utc), request.remote_addr
    user.last_login_at = now
    db.session.add_all(
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
    # Before the commit, after which the user's id would be read from the database again.
    login_user(user, remember=remember)
    db.session.commit()
    return redirect(target, 303)
