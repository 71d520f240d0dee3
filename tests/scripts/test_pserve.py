"""pserve finds the packaged .ini files."""

from pathlib import Path

import pytest

from hello_login import ini_files
from hello_login.scripts.pserve import main


@pytest.fixture
def empty_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, and return it."""
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ini_files.PACKAGED)
@pytest.mark.usefixtures("empty_folder")
def test_the_packaged_ini_file_is_used_if_the_current_folder_has_none(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "no port")
    with pytest.raises(SystemExit, match="PORT is 'no port'"):
        main(["pserve", name])


def test_an_ini_file_in_the_current_folder_is_preferred_to_the_packaged_one(
    empty_folder: Path,
) -> None:
    packaged = (ini_files.PACKAGE / "development.ini").read_text()
    here = packaged.replace("\n[server:main]", "hello_login.statment = 1\n\n[server:main]")
    (empty_folder / "development.ini").write_text(here)
    with pytest.raises(SystemExit, match="statment is not a setting"):
        main(["pserve", "development.ini"])


@pytest.mark.usefixtures("empty_folder")
def test_a_missing_ini_file_is_reported_in_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^Can't use staging\.ini: .*staging\.ini") as message:
        main(["pserve", "staging.ini"])
    assert "\n" not in str(message.value)


def test_a_percent_sign_in_the_path_is_refused_in_one_sentence(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ConfigParser would take it for the start of a variable.
    (empty_folder / "100%").mkdir()
    monkeypatch.chdir(empty_folder / "100%")
    Path("development.ini").write_text((ini_files.PACKAGE / "development.ini").read_text())
    with pytest.raises(SystemExit, match=r"100%/development\.ini: rename the folder"):
        main(["pserve", "development.ini"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hello_login.secret_key = pa55%word", r"hello_login\.secret_key in \[app:main\] has a %"),
        ("hello_login.secret_key = %(pa55)s", r"hello_login\.secret_key in \[app:main\] has a %"),
        ("pa55", "line 2 is neither a section nor NAME = VALUE"),
        ("# \xe9 pa55", "it is not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_read_is_reported_without_showing_it(
    empty_folder: Path, line: str, reason: str
) -> None:
    text = f"[app:main]\n{line}\nuse = egg:hello_login\n"
    (empty_folder / "site.ini").write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit, match=rf"^Can't use site\.ini: {reason}") as message:
        main(["pserve", "site.ini"])
    assert "pa55" not in str(message.value)
    assert "\n" not in str(message.value)


def test_a_file_of_environment_variables_is_refused_without_showing_them(
    empty_folder: Path,
) -> None:
    (empty_folder / "site.ini").write_text("SECRET_KEY=pa55\n")
    with pytest.raises(SystemExit, match="line 1 is before the first section") as message:
        main(["pserve", "site.ini"])
    assert "pa55" not in str(message.value)


def test_an_argument_without_a_value_is_refused_in_one_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^Can't use '8000': write NAME=VALUE"):
        main(["pserve", "development.ini", "http_host=127.0.0.1", "8000"])


def test_without_arguments_pserve_asks_for_a_config_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["pserve"]) == 2
    assert "You must give a config file" in capsys.readouterr().err
