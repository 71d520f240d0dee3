"""pserve, which finds the packaged .ini files."""

from pathlib import Path

import pytest

from hello_login import ini_files
from hello_login.scripts.pserve import main


@pytest.fixture
def empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which nothing is."""
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", ini_files.PACKAGED)
@pytest.mark.usefixtures("empty")
def test_without_a_file_of_that_name_it_uses_the_packaged_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "no port")
    with pytest.raises(SystemExit, match="PORT is 'no port'"):
        main(["pserve", name])


def test_a_file_of_that_name_in_the_current_folder_goes_first(empty: Path) -> None:
    packaged = (ini_files.PACKAGE / "development.ini").read_text()
    here = packaged.replace("\n[server:main]", "hello_login.statment = 1\n\n[server:main]")
    (empty / "development.ini").write_text(here)
    with pytest.raises(SystemExit, match="statment is not a setting"):
        main(["pserve", "development.ini"])


@pytest.mark.usefixtures("empty")
def test_another_file_that_is_not_there_is_told_in_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^Can't use staging\.ini: .*staging\.ini") as told:
        main(["pserve", "staging.ini"])
    assert "\n" not in str(told.value)


def test_a_percent_sign_in_the_path_is_told_in_a_sentence(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ConfigParser, which reads the file, would take it for the begin of a variable's name."""
    (empty / "100%").mkdir()
    monkeypatch.chdir(empty / "100%")
    Path("development.ini").write_text((ini_files.PACKAGE / "development.ini").read_text())
    with pytest.raises(SystemExit, match=r"100%/development\.ini: rename the folder"):
        main(["pserve", "development.ini"])


def test_without_a_file_it_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pserve"]) == 2
    assert "You must give a config file" in capsys.readouterr().err
