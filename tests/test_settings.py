"""Settings are read from the .ini file and the environment, and checked."""

import os
from email.message import EmailMessage
from pathlib import Path

import pytest

import hello_login
from hello_login import settings
from hello_login.db import migrations
from tests.conftest import ROOT

INI = {"hello_login.migrations": "sql"}
ENVIRON = {
    "DATABASE_URL": "postgresql://ada:pa55@db.example.com/app",
    "SECRET_KEY": "k" * 32,
    "TRUSTED_PROXY": "none",
}


def problems(
    ini: dict[str, str] | None = None,
    environ: dict[str, str] | None = None,
    global_config: dict[str, str] | None = None,
) -> list[str]:
    """Return the problems of settings that are right apart from these."""
    with pytest.raises(SystemExit) as caught:
        settings.load(global_config or {}, {**INI, **(ini or {})}, {**ENVIRON, **(environ or {})})
    return str(caught.value).splitlines()


def test_production_names_all_required_variables_that_are_missing() -> None:
    with pytest.raises(SystemExit) as caught:
        settings.load({}, {}, {})
    messages = str(caught.value).splitlines()
    assert [line.split()[0] for line in messages] == ["DATABASE_URL", "SECRET_KEY", "TRUSTED_PROXY"]
    assert all("set it to" in line for line in messages)


def test_the_environment_overrides_the_ini_file() -> None:
    ini = {**INI, "hello_login.secret_key": "i" * 32, "hello_login.database_url": "postgresql:///i"}
    assert settings.load({}, ini, {"TRUSTED_PROXY": "none"}).secret_key == "i" * 32
    assert settings.load({}, ini, {"TRUSTED_PROXY": "none"}).database_url == "postgresql:///i"
    assert settings.load({}, ini, ENVIRON).secret_key == ENVIRON["SECRET_KEY"]
    assert settings.load({}, ini, ENVIRON).database_url == ENVIRON["DATABASE_URL"]


def test_an_empty_variable_counts_as_missing() -> None:
    assert "DATABASE_URL is missing" in problems(environ={"DATABASE_URL": ""})[0]


def test_an_embedded_database_needs_no_url() -> None:
    ini = {**INI, "hello_login.embedded_postgres": "/somewhere"}
    loaded = settings.load({}, ini, {**ENVIRON, "DATABASE_URL": ""})
    assert loaded.database_url is None
    assert loaded.embedded_postgres == Path("/somewhere")


@pytest.mark.parametrize(
    "url",
    [
        *("postgres://db/app", "postgresql://ada:p%40ss@db:5432/app?sslmode=require"),
        *("postgresql://ada:pa55@db1,db2:5433/app", "postgresql://%40socket/app"),
    ],
)
def test_both_schemes_of_a_postgresql_url_are_accepted(url: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, "DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://ada:pa55@db/app", "db.example.com", "postgresql://ada:pa55@[db/app"),
        *("postgresql://ada:pa55/x@db/app", "postgresql://ada:x@pa55@db/app"),
        *("postgresql://ada:pa55%zz@db/app", "postgresql://ada:pa55@db:port/app"),
    ],
)
def test_a_wrong_database_url_is_refused_without_showing_its_password(url: str) -> None:
    (message,) = problems(environ={"DATABASE_URL": url})
    assert message.startswith("DATABASE_URL is not a URL: set it to postgresql://")
    assert "pa55" not in message


def test_a_pooler_keeps_a_session_for_each_connection_or_for_a_transaction() -> None:
    assert settings.load({}, INI, ENVIRON).shares_sessions is False
    for value, shares in (("session", False), ("transaction", True)):
        loaded = settings.load({}, INI, {**ENVIRON, "DATABASE_POOLER": value})
        assert loaded.shares_sessions is shares
    (message,) = problems(environ={"DATABASE_POOLER": "statement"})
    assert message == "DATABASE_POOLER is 'statement': set it to session or transaction."


def test_a_short_secret_key_is_refused_without_showing_it() -> None:
    (message,) = problems(environ={"SECRET_KEY": "abc123"})
    assert message.startswith("SECRET_KEY is too short: set it to 32 or more")
    assert "abc123" not in message


@pytest.mark.parametrize("variable", ["DATABASE_URL", "SECRET_KEY", "SITE_NAME"])
def test_bytes_that_are_not_utf_8_are_refused_without_showing_them(variable: str) -> None:
    value = os.fsdecode(b"postgresql://ada:pa\xe55@db/" + b"k" * 32)
    (message,) = problems(environ={variable: value})
    assert message == f"{variable} has bytes that are not UTF-8: replace them."


def test_several_secret_keys_are_separated_by_blanks_or_commas() -> None:
    newer, older = "n" * 32, "o" * 40
    for value in (f"{newer} {older}", f"{newer},{older}", f" {newer},\n {older},"):
        loaded = settings.load({}, INI, {**ENVIRON, "SECRET_KEY": value})
        assert loaded.secret_keys == (newer, older)


@pytest.mark.parametrize("value", [",", "abc123 " + "k" * 32, "k" * 32 + ",abc123"])
def test_each_of_several_secret_keys_must_be_long_enough(value: str) -> None:
    (message,) = problems(environ={"SECRET_KEY": value})
    assert message.startswith("SECRET_KEY is too short: set it to 32 or more")
    assert "abc123" not in message


@pytest.mark.parametrize("value", ["", "-1", "7", "65", "1e3", "12.0", "\u0663\u0663"])
def test_a_number_out_of_range_is_refused_with_the_range(value: str) -> None:
    if value == "":
        loaded = settings.load({}, {**INI, "hello_login.password_min_length": value}, ENVIRON)
        assert loaded.password_min_length == 12
    else:
        (message,) = problems({"hello_login.password_min_length": value})
        assert "password_min_length" in message
        assert "from 8 to 64" in message


def test_argon2_needs_memory_for_each_lane() -> None:
    (message,) = problems({"hello_login.argon2_memory_kib": "31", "hello_login.argon2_lanes": "4"})
    assert message.startswith("hello_login.argon2_memory_kib is too low")


def test_production_refuses_the_secret_key_of_development_ini() -> None:
    (line,) = [
        each
        for each in (ROOT / "development.ini").read_text().splitlines()
        if each.startswith("hello_login.secret_key")
    ]
    known = line.partition(" = ")[2]
    environ = {**ENVIRON, "SECRET_KEY": known}
    assert "public one of development.ini" in problems(environ=environ)[0]
    assert settings.load({}, {**INI, "hello_login.secure_cookies": "false"}, environ)


def test_a_boolean_is_true_or_false() -> None:
    assert "true or false" in problems({"hello_login.secure_cookies": "yes"})[0]
    loaded = settings.load({}, {**INI, "hello_login.secure_cookies": "false"}, ENVIRON)
    assert loaded.secure_cookies is False


def test_a_second_factor_is_required_only_if_the_operator_says_so() -> None:
    assert settings.load({}, INI, ENVIRON).second_factor_required is False
    required = {**INI, "hello_login.second_factor_required": "true"}
    assert settings.load({}, required, ENVIRON).second_factor_required is True


def test_the_default_migrations_are_those_of_the_package() -> None:
    folders = settings.load({}, {}, ENVIRON).migrations
    assert migrations.names(*folders) == migrations.names(ROOT / "sql")


def test_further_migrations_come_after_those_of_the_package(tmp_path: Path) -> None:
    lines = ["", *(str(tmp_path / name) for name in ("my own", "others"))]
    for folder, name in zip(lines[1:], ("0001.notes", "0001.others"), strict=True):
        Path(folder).mkdir()
        Path(folder, f"{name}.sql").touch()
    ini = {"hello_login.migrations": "\n".join([*lines, str(ROOT / "sql")])}
    folders = settings.load({}, ini, ENVIRON).migrations
    own = migrations.names(ROOT / "sql")
    assert migrations.names(*folders) == [*own, "0001.notes", "0001.others"]


def test_two_migrations_with_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0001.users.sql").touch()
    (message,) = problems({"hello_login.migrations": str(tmp_path)})
    assert message.startswith("hello_login.migrations names a folder with 0001.users.sql, but")


def test_a_site_name_has_at_most_50_printable_characters_on_one_line() -> None:
    assert settings.load({}, INI, ENVIRON).site_name == "Hello Login"
    for name in ("A", "\xc5sa's Notes", "x" * 50):
        assert settings.load({}, INI, {**ENVIRON, "SITE_NAME": name}).site_name == name
    assert settings.load({}, {**INI, "hello_login.site_name": "A"}, ENVIRON).site_name == "A"


@pytest.mark.parametrize("name", ["x" * 51, "A: B", "A\nB", "A\x7f", "A\u202eB"])
def test_a_wrong_site_name_is_refused(name: str) -> None:
    (message,) = problems(environ={"SITE_NAME": name})
    assert message.startswith("SITE_NAME is ")
    assert message.endswith("set it to at most 50 printable characters, without a colon.")


def test_registration_is_open_or_closed() -> None:
    assert settings.load({}, INI, ENVIRON).registration == "open"
    assert settings.load({}, INI, {**ENVIRON, "REGISTRATION": "closed"}).registration == "closed"
    (message,) = problems(environ={"REGISTRATION": "no"})
    assert message == "REGISTRATION is 'no': set it to open or closed."


def test_a_login_leads_to_a_path_of_this_site() -> None:
    assert settings.load({}, INI, ENVIRON).after_login == "/account"
    ini = {**INI, "hello_login.after_login": "/notes?all=1"}
    assert settings.load({}, ini, ENVIRON).after_login == "/notes?all=1"


@pytest.mark.parametrize("path", ["notes", "//a.example", "/\\a.example", "https://a.org/", "/ "])
def test_a_login_leads_to_no_other_site(path: str) -> None:
    (message,) = problems({"hello_login.after_login": f"{path}x"})
    assert message.startswith("hello_login.after_login is ")


@pytest.mark.parametrize("path", ["/login", "/register", "/login?next=/notes", "/register#top"])
def test_a_login_does_not_lead_back_to_itself(path: str) -> None:
    assert problems({"hello_login.after_login": path}) == [
        f"hello_login.after_login is '{path}', which leads back to itself: set it to another path."
    ]


def test_the_packaged_development_ini_puts_its_database_into_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    ini = {
        "hello_login.embedded_postgres": str(Path(settings.__file__).parent / ".postgres"),
        "hello_login.secure_cookies": "false",
    }
    loaded = settings.load({}, ini, {"SECRET_KEY": "k" * 32})
    assert loaded.embedded_postgres == folder / ".postgres"


def test_a_folder_without_migrations_is_refused(tmp_path: Path) -> None:
    assert "without .sql files" in problems({"hello_login.migrations": str(tmp_path)})[0]


@pytest.mark.parametrize("name", ["migrations", "overrides"])
def test_a_folder_that_cannot_be_looked_up_is_refused(name: str) -> None:
    # As root has access to every folder, the error is that of a name that is too long.
    folder = "/" + "x" * 300
    (message,) = problems({f"hello_login.{name}": folder})
    assert message.startswith(f"hello_login.{name} ")
    assert repr(folder) in message


def test_a_misspelt_setting_is_refused() -> None:
    messages = problems({"hello_login.pasword_min_length": "12"})
    assert messages == ["hello_login.pasword_min_length is not a setting: correct its name."]


def test_the_port_comes_from_the_command_line_or_the_environment_or_is_5000() -> None:
    assert settings.port({"http_port": "8080"}, {"PORT": "9090"}) == 8080
    assert settings.port({"http_port": ""}, {"PORT": "9090"}) == 9090
    assert settings.port({}, {}) == 5000


def test_a_wrong_port_is_reported_together_with_other_mistakes() -> None:
    messages = problems(environ={"SECRET_KEY": "", "PORT": "http"})
    assert [line.split()[0] for line in messages] == ["SECRET_KEY", "PORT"]
    assert problems(global_config={"http_port": "70000"})[0].startswith("http_port is '70000'")


@pytest.mark.parametrize(
    ("value", "trusted"),
    [
        ("none", "none"),
        ("*", "*"),
        ("192.0.2.1", "192.0.2.1"),
        # In the kernel's notation, because waitress compares texts.
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_the_trusted_proxy_is_an_address_or_all_or_none(value: str, trusted: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, "TRUSTED_PROXY": value}).trusted_proxy == trusted


@pytest.mark.parametrize(("value", "why"), [("", "is missing"), ("proxy", "is 'proxy'")])
def test_production_without_a_valid_trusted_proxy_is_refused_with_the_choices(
    value: str, why: str
) -> None:
    (message,) = problems(environ={"TRUSTED_PROXY": value})
    assert message.startswith(f"TRUSTED_PROXY {why}: set it to the proxy's IP address")
    assert all(choice in message for choice in ("* if", "none if"))


def test_without_secure_cookies_trusted_proxy_is_optional() -> None:
    ini = {**INI, "hello_login.secure_cookies": "false"}
    loaded = settings.load({}, ini, {**ENVIRON, "TRUSTED_PROXY": ""})
    assert (loaded.trusted_proxy, loaded.trusted_proxy_count) == ("none", 1)


def test_a_wrong_proxy_and_a_wrong_count_are_reported_together_with_other_mistakes() -> None:
    wrong = {"SECRET_KEY": "", "TRUSTED_PROXY": "proxy", "TRUSTED_PROXY_COUNT": "0"}
    messages = [line.split()[0] for line in problems(environ=wrong)]
    assert messages == ["SECRET_KEY", "TRUSTED_PROXY", "TRUSTED_PROXY_COUNT"]


def test_the_repr_of_settings_shows_no_secrets() -> None:
    text = repr(settings.load({}, INI, ENVIRON))
    assert "pa55" not in text
    assert ENVIRON["SECRET_KEY"] not in text


def test_an_unknown_log_level_is_refused() -> None:
    assert settings.load({}, INI, ENVIRON).log_level == "INFO"
    assert settings.load({}, INI, {**ENVIRON, "LOG_LEVEL": "debug"}).log_level == "DEBUG"
    (message,) = problems(environ={"LOG_LEVEL": "loud"})
    assert message == "LOG_LEVEL is 'loud': set it to debug, info, warning or error."


MAIL = {
    "SITE_URL": "https://login.example.org",
    "MAIL_URL": "smtp://ada:pa55@mail.example.org:587",
    "MAIL_FROM": "Hello Login <login@example.org>",
}
DEVELOPMENT = {**INI, "hello_login.secure_cookies": "false"}


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("https://login.example.org", "https://login.example.org"),
        ("https://Login.Example.Org/", "https://login.example.org"),
        ("https://login.example.org:443", "https://login.example.org"),
        ("https://localhost:8443", "https://localhost:8443"),
        ("https://192.0.2.1:80", "https://192.0.2.1:80"),
    ],
)
def test_the_site_url_is_kept_as_browsers_write_an_origin(value: str, url: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, "SITE_URL": value}).site_url == url


@pytest.mark.parametrize(
    "value",
    [
        *("login.example.org", "https://", "https://login.example.org/path", "https://a b"),
        *("https://ada:pa55@login.example.org", "ftp://login.example.org", "https://a:port"),
        *("https://[::1]", "https://[2001:db8::1]:8443"),
        *("https://login..example.org", "https://a:0", "https://a:65536"),
    ],
)
def test_a_wrong_site_url_is_refused_without_showing_it(value: str) -> None:
    assert problems(environ={"SITE_URL": value}) == [
        "SITE_URL is not the URL of a site: set it to https://HOST, without a path."
    ]


def test_the_site_url_of_production_begins_with_https() -> None:
    assert problems(environ={"SITE_URL": "http://login.example.org"}) == [
        "SITE_URL begins with http: set it to https://HOST, without a path."
    ]
    environ = {**ENVIRON, "SITE_URL": "http://login.example.org:80"}
    assert settings.load({}, DEVELOPMENT, environ).site_url == "http://login.example.org"


def test_without_a_site_url_development_is_localhost_on_its_port() -> None:
    assert settings.load({}, INI, ENVIRON).site_url is None
    assert settings.load({}, DEVELOPMENT, ENVIRON).site_url == "http://localhost:5000"
    environ = {**ENVIRON, "PORT": "8080"}
    assert settings.load({}, DEVELOPMENT, environ).site_url == "http://localhost:8080"
    environ_of_http = {**ENVIRON, "PORT": "80"}
    assert settings.load({}, DEVELOPMENT, environ_of_http).site_url == "http://localhost"
    ini = {"http_port": "9090"}
    assert settings.load(ini, DEVELOPMENT, environ).site_url == "http://localhost:9090"


SITES = {
    "": False,
    "https://login.example.org": True,
    "https://login.example.org:8443": True,
    "https://localhost": True,
    "https://1.example.org": True,
    "https://127.0.0.1": False,
    "https://192.0.2.1:8443": False,
}
"""Values of SITE_URL, and whether passkeys are offered: an IP address can't have any."""


@pytest.mark.parametrize(("value", "offered"), SITES.items())
def test_passkeys_are_offered_if_the_site_has_a_host_name(value: str, offered: bool) -> None:
    assert settings.load({}, INI, {**ENVIRON, "SITE_URL": value}).offers_passkeys is offered


def test_development_offers_passkeys_on_localhost() -> None:
    assert settings.load({}, DEVELOPMENT, ENVIRON).offers_passkeys


@pytest.mark.parametrize(
    "value",
    [
        *("smtp://mail.example.org", "smtp://mail.example.org:2525/", "file:/tmp/mail"),
        *("smtp://ada:pa55@mail.example.org:587", "smtps://ada%40a.org:pa%2F55@mail.example.org"),
    ],
)
def test_mail_is_sent_by_smtp_or_to_files(value: str) -> None:
    loaded = settings.load({}, INI, {**ENVIRON, **MAIL, "MAIL_URL": value})
    assert loaded.mail_url == value
    assert loaded.sends_mail


def test_no_mail_is_sent_if_the_mail_url_is_missing_or_none() -> None:
    assert not settings.load({}, INI, ENVIRON).sends_mail
    assert not settings.load({}, INI, {**ENVIRON, "MAIL_URL": "none"}).sends_mail


@pytest.mark.parametrize(
    "value",
    [
        *("mail.example.org", "http://ada:pa55@mail.example.org", "smtp://", "file:", "smtp:///a"),
        *("smtp://ada:pa55/x@mail.example.org", "smtp://ada:55#pa55@mail.example.org"),
        *("smtp://ada:pa55@mail.example.org:x", "smtp://mail.example.org:587/pa55"),
        *("smtp://mail.example.org:587/?pa55", "smtp://pa55@mail.example.org", "smtp://[pa55"),
        *("smtp://ada:pa55@mail.example.org:0", "smtp://ada:pa55%0A@mail.example.org"),
        *("smtp://ada:pa55\u2100@mail.example.org", "smtp://ada:pa55%C3%A4@mail.example.org"),
    ],
)
def test_a_wrong_mail_url_is_refused_without_showing_its_password(value: str) -> None:
    (message,) = problems(environ={**MAIL, "MAIL_URL": value})
    assert message.startswith("MAIL_URL is not a URL: set it to smtp://user:")
    assert "pa55" not in message


def test_the_packaged_development_ini_writes_its_mails_into_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    packaged = Path(settings.__file__).parent / ".mail"
    loaded = settings.load({}, {}, {**ENVIRON, **MAIL, "MAIL_URL": f"file:{packaged}"})
    assert loaded.mail_url == f"file:{folder / '.mail'}"


@pytest.mark.parametrize(
    "value",
    ["login@example.org", "Hello Login <login@example.org>", '"Login, \xc5sa" <login@example.org>'],
)
def test_mails_come_from_an_address_with_or_without_a_name(value: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, **MAIL, "MAIL_FROM": value}).mail_from == value
    message = EmailMessage()
    message["From"] = value
    assert message["From"].addresses[0].addr_spec == "login@example.org"


@pytest.mark.parametrize(
    "value",
    [
        *("login", "Hello Login", "login@example.org, ada@example.org", "\xe5sa@example.org"),
        *("login@\xe5sa.example", "Hello\nLogin <login@example.org>", "pa55@"),
        *(
            "Login, Hello <login@example.org>",
            "Hello: login@example.org;x",
            "Login:",
            "@",
            "<>",
            "<login@example.org",
        ),
    ],
)
def test_an_address_that_mails_cannot_come_from_is_refused(value: str) -> None:
    (message,) = problems(environ={**MAIL, "MAIL_FROM": value})
    assert message == (
        "MAIL_FROM is not an address: set it to an address, such as "
        '"Hello Login <login@example.org>".'
    )


def test_mail_needs_the_url_of_the_site_and_a_sender() -> None:
    missing = {**MAIL, "SITE_URL": "", "MAIL_FROM": ""}
    assert [message.partition(": ")[0] for message in problems(environ=missing)] == [
        "SITE_URL is missing, and MAIL_URL needs it",
        "MAIL_FROM is missing, and MAIL_URL needs it",
    ]
    assert settings.load({}, DEVELOPMENT, {**ENVIRON, **MAIL, "SITE_URL": ""}).sends_mail
    assert settings.load({}, INI, {**ENVIRON, **missing, "MAIL_URL": "none"})


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("help@example.org", "mailto:help@example.org"),
        ("mailto:help@example.org", "mailto:help@example.org"),
        ("h?body=x@example.org", "mailto:h%3Fbody%3Dx@example.org"),
        ("https://example.org/help?from=login", "https://example.org/help?from=login"),
    ],
)
def test_the_contact_is_kept_as_a_url(value: str, url: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, "CONTACT": value}).contact == url


BAD_CONTACTS = [
    *("help", "https://", "https:///a", "javascript:x@example.org"),
    "https://\u202egro.elpmaxe",  # reads as another host
]


@pytest.mark.parametrize("value", BAD_CONTACTS)
def test_a_contact_that_cannot_be_linked_is_refused(value: str) -> None:
    (message,) = problems(environ={"CONTACT": value})
    assert message == (
        "CONTACT is neither an address nor a page: set it to one such as help@example.org or "
        "https://example.org/help."
    )


def test_the_repr_of_settings_does_not_show_the_password_of_the_mail_server() -> None:
    assert "pa55" not in repr(settings.load({}, INI, {**ENVIRON, **MAIL}))


def start(monkeypatch: pytest.MonkeyPatch, ini: dict[str, str], environ: dict[str, str]) -> None:
    """Start the application, without a connection to its database."""
    for name, value in {**ENVIRON, **environ}.items():
        monkeypatch.setenv(name, value)
    hello_login.main({}, **ini)


@pytest.mark.parametrize(
    ("ini", "environ", "warnings"),
    [
        (INI, {}, 1),
        (INI, {"MAIL_URL": "none"}, 0),
        (INI, {**MAIL}, 0),
        (DEVELOPMENT, {}, 0),
    ],
)
def test_production_without_a_mail_url_warns_once_at_start(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ini: dict[str, str],
    environ: dict[str, str],
    warnings: int,
) -> None:
    start(monkeypatch, ini, environ)
    told = [each for each in caplog.records if "set MAIL_URL" in each.message]
    assert [each.levelname for each in told] == ["WARNING"] * warnings


@pytest.mark.parametrize(("value", "offered"), SITES.items())
def test_a_site_that_offers_no_passkeys_says_so_once_at_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str, offered: bool
) -> None:
    start(monkeypatch, INI, {"SITE_URL": value})
    told = [each for each in caplog.records if each.message.startswith("No passkeys can be used")]
    assert [each.levelname for each in told] == ([] if offered else ["WARNING"])
    assert all("set SITE_URL" in each.message for each in told)


@pytest.mark.parametrize("value", ["0123456789 0123456789 0123456789", "\xe5" * 32, "x" * 31])
def test_a_metrics_token_that_can_be_guessed_or_not_be_sent_is_refused(value: str) -> None:
    (message,) = problems(environ={"METRICS_TOKEN": value})
    assert message.startswith("METRICS_TOKEN is too short, or has a blank ")
    assert value not in message


def test_the_repr_of_settings_does_not_show_the_metrics_token() -> None:
    token = "0123456789abcdef0123456789abcdef"
    loaded = settings.load({}, INI, {**ENVIRON, "METRICS_TOKEN": token})
    assert loaded.metrics_token == token
    assert token not in repr(loaded)
    assert settings.load({}, INI, ENVIRON).metrics_token is None
