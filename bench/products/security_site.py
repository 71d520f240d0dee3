"""Flask-Security with Flask-SQLAlchemy as in its quick start, trackable and registerable."""

import os

from flask import Flask, jsonify, render_template, request
from flask_security import Security, SQLAlchemyUserDatastore, auth_required, hash_password
from flask_security.models import fsqla_v3 as fsqla
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from jinja2 import DictLoader
from werkzeug.middleware.proxy_fix import ProxyFix

GREETING = "Hello World, Little Dude, How Are You?"
PAGE = """{% extends "security/base.html" %}{% block content %}<h1>{{ title }}</h1>
{% if current_user.is_authenticated %}<p>{{ current_user.email }}, {{ current_user.login_count }}
logins, the last ones {{ current_user.current_login_at }} from {{ current_user.current_login_ip }},
{{ current_user.last_login_at }} from {{ current_user.last_login_ip }}</p>
<form method="post" action="{{ url_for_security("logout") }}"><input type="hidden"
name="csrf_token" value="{{ csrf_token() }}"><button>Log out</button></form>{% endif %}
{% include "security/_menu.html" %}{% endblock %}"""

app = Flask(__name__)
app.jinja_loader = DictLoader({"page.html": PAGE})
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
costs = map(int, os.environ["ARGON2"].split(","))
names = ("argon2__memory_cost", "argon2__time_cost", "argon2__parallelism")
app.config.update(
    SECRET_KEY=os.environ["SECRET_KEY"],
    SECURITY_PASSWORD_SALT="146585145368132386173505678016728509634",  # noqa: S106 - made up
    SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS=dict(zip(names, costs, strict=True)),
    SECURITY_TRACKABLE=True,
    SECURITY_REGISTERABLE=True,
    SECURITY_SEND_REGISTER_EMAIL=False,
    SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},  # no name server here
    SESSION_COOKIE_SAMESITE="strict",
    SQLALCHEMY_DATABASE_URI="postgresql+psycopg2://",  # from libpq's variables
    SQLALCHEMY_ENGINE_OPTIONS={"pool_pre_ping": True},
)
CSRFProtect(app)
db = SQLAlchemy(app)
fsqla.FsModels.set_db_info(db)


class Role(db.Model, fsqla.FsRoleMixin):
    pass


class User(db.Model, fsqla.FsUserMixin):
    pass


app.security = Security(app, SQLAlchemyUserDatastore(db, User, Role))


@app.get("/")
def greet():
    if "text/html" in request.headers.get("Accept", ""):
        return render_template("page.html", title=GREETING)
    return jsonify(answer=GREETING)


@app.get("/account")
@auth_required()
def show_account():
    return render_template("page.html", title="Your account")


def prepare(users, password):
    """Make the tables and accounts."""
    with app.app_context():
        db.create_all()
        hashed = hash_password(password)
        for n in range(1, users + 1):
            email = f"user{n}@example.com"
            app.security.datastore.create_user(email=email, password=hashed)
        db.session.commit()
