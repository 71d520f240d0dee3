"""Settings are read from the .ini file and the environment, and checked."""

from pathlib import Path

import pytest

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
    "url", ["postgres://db/app", "postgresql://ada:p%40ss@db:5432/app?sslmode=require"]
)
def test_both_schemes_of_a_postgresql_url_are_accepted(url: str) -> None:
    assert settings.load({}, INI, {**ENVIRON, "DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize(
    "url", ["mysql://ada:pa55@db/app", "db.example.com", "postgresql://ada:pa55@[db/app"]
)
def test_another_url_is_refused_without_showing_its_password(url: str) -> None:
    (message,) = problems(environ={"DATABASE_URL": url})
    assert message.startswith("DATABASE_URL is not a URL: set it to postgresql://")
    assert "pa55" not in message


def test_a_short_secret_key_is_refused_without_showing_it() -> None:
    (message,) = problems(environ={"SECRET_KEY": "abc123"})
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


def test_the_default_migrations_are_those_of_the_package() -> None:
    folder = settings.load({}, {}, ENVIRON).migrations
    assert migrations.names(folder) == migrations.names(ROOT / "sql")


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


def test_a_misspelt_setting_is_refused() -> None:
    messages = problems({"hello_login.pasword_min_length": "12"})
    assert messages == ["hello_login.pasword_min_length is not a setting: correct its name."]


@pytest.mark.parametrize(("old", "new"), settings.RENAMED.items())
def test_a_renamed_setting_is_refused_with_its_new_name(old: str, new: str) -> None:
    messages = problems({f"hello_login.{old}": "1"})
    assert messages == [f"hello_login.{old} is now called hello_login.{new}: rename it."]
    assert settings.load({}, {**INI, f"hello_login.{new}": "1"}, ENVIRON)


@pytest.mark.parametrize("name", sorted(settings.REMOVED))
def test_a_removed_setting_is_refused(name: str) -> None:
    messages = problems({f"hello_login.{name}": "1"})
    assert messages == [f"hello_login.{name} is no longer a setting: remove the line."]


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
