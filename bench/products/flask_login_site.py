"""The smallest login with Flask, Flask-Login, Flask-WTF and Flask-SQLAlchemy."""

import os

from flask import Flask, jsonify, redirect, render_template, request
from flask_login import LoginManager, UserMixin, login_required, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect, FlaskForm
from jinja2 import DictLoader
from passlib.hash import argon2
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.middleware.proxy_fix import ProxyFix
from wtforms import EmailField, PasswordField
from wtforms.validators import DataRequired, Length

GREETING = "Hello World, Little Dude, How Are You?"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
</head><body><h1>{{ title }}</h1>{% block content %}{% if current_user.is_authenticated %}
<p>{{ current_user.email }}</p><form method="post" action="/logout">
<input type="hidden" name="csrf_token" value="{{ csrf_token() }}"><button>Log out</button></form>
{% else %}<a href="/login">Log in</a> <a href="/register">Register</a>{% endif %}{% endblock %}
</body></html>"""
FORM = """{% extends "page.html" %}{% block content %}<form method="post">{{ form.hidden_tag() }}
{% for field in form if field.name != "csrf_token" %}<p>{{ field.label }} {{ field }}
{{ field.errors|join(" ") }}</p>{% endfor %}<button>{{ title }}</button></form>{% endblock %}"""

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg2://"  # from libpq's variables
app.jinja_loader = DictLoader({"page.html": PAGE, "form.html": FORM})
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
db = SQLAlchemy(app)
CSRFProtect(app)
logins = LoginManager(app)
memory, passes, lanes = map(int, os.environ["ARGON2"].split(","))
hasher = argon2.using(memory_cost=memory, time_cost=passes, parallelism=lanes)


class User(UserMixin, db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    password: Mapped[str]


class LoginForm(FlaskForm):
    email = EmailField("Email address", [DataRequired()])
    password = PasswordField("Password", [DataRequired()])


class RegisterForm(LoginForm):
    password = PasswordField("Password", [Length(12)])


@logins.user_loader
def load_user(user_id):
    return db.session.get(User, int(user_id))


@app.get("/")
def greet():
    if "text/html" in request.headers.get("Accept", ""):
        return render_template("page.html", title=GREETING)
    return jsonify(answer=GREETING)


@app.route("/login", methods=["GET", "POST"])
def log_in():
    form = LoginForm()
    if form.validate_on_submit():
        user = db.session.scalar(db.select(User).filter_by(email=form.email.data.lower()))
        if user and hasher.verify(form.password.data, user.password):
            login_user(user)
            return redirect("/account")
        form.password.errors = ["That address and password do not match."]
    return render_template("form.html", title="Log in", form=form)


@app.route("/register", methods=["GET", "POST"])
def register():
    form = RegisterForm()
    if form.validate_on_submit():
        hashed = hasher.hash(form.password.data)
        user = User(email=form.email.data.lower(), password=hashed)
        db.session.add(user)
        db.session.commit()
        login_user(user)
        return redirect("/account")
    return render_template("form.html", title="Register", form=form)


@app.post("/logout")
def log_out():
    logout_user()
    return redirect("/")


@app.get("/account")
@login_required
def show_account():
    return render_template("page.html", title="Your account")


def prepare(users, password):
    """Make the tables and accounts."""
    with app.app_context():
        db.create_all()
        hashed = hasher.hash(password)
        for n in range(1, users + 1):
            db.session.add(User(email=f"user{n}@example.com", password=hashed))
        db.session.commit()
