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

    Raises SystemExit with a sentence if the file can't be used.  It repeats no line of the file.
    """
    path = Path(config_uri).absolute()
    if "%" in str(path):
        raise SystemExit(f"Can't use {path}: rename the folder, because its path contains a %.")
    try:
        loader = plaster.get_loader(config_uri, protocols=["wsgi"])
        return dict(loader.get_wsgi_app_settings())
    except configparser.InterpolationError as error:
        where = f"{error.option} in [{error.section}]"
        reason = f"{where} has a % that stands for no other value: double it"
    except configparser.MissingSectionHeaderError as error:
        reason = f"line {error.lineno} is before the first section"
    except configparser.ParsingError as error:
        reason = f"line {error.errors[0][0]} is neither a section nor NAME = VALUE"
    except UnicodeDecodeError:
        reason = "it is not UTF-8: save it in this encoding"
    except (OSError, LookupError, ImportError, configparser.Error, plaster.PlasterError) as error:
        reason = str(error)
    raise SystemExit(f"Can't use {config_uri}: {reason}")
