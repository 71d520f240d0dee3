"""Finds and reads production.ini and development.ini."""

import configparser
from collections.abc import Mapping
from pathlib import Path

import plaster

PACKAGE = Path(__file__).parent
PACKAGED = ("development.ini", "production.ini")


def find(config_uri: str) -> str:
    """Return the path of the .ini file, or of the packaged one if no such file exists.

    Raises SystemExit with a sentence if the file can't be used.
    """
    if config_uri in PACKAGED and not Path(config_uri).exists():
        config_uri = str(PACKAGE / config_uri)
    read_app(config_uri)
    return config_uri


def read_app(config_uri: str) -> Mapping[str, str]:
    """Return [app:main] of the .ini file.

    Raises SystemExit with a sentence if the file can't be used.
    """
    path = Path(config_uri).absolute()
    if "%" in str(path):
        raise SystemExit(f"Can't use {path}: rename the folder, because its path contains a %.")
    try:
        loader = plaster.get_loader(config_uri, protocols=["wsgi"])
        return dict(loader.get_wsgi_app_settings())
    except (OSError, LookupError, ImportError, configparser.Error, plaster.PlasterError) as error:
        raise SystemExit(f"Can't use {config_uri}: {error}") from None
