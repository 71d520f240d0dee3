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


def test_without_arguments_pserve_asks_for_a_config_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["pserve"]) == 2
    assert "You must give a config file" in capsys.readouterr().err
