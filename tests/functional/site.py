"""The application with other constants, for tests that start real processes.

An .ini file uses it by `use = call:tests.functional.site:main`.  Its section [app:main] gives the
constants by their full names, after PREFIX.
"""

import importlib
from datetime import timedelta
from typing import Any

import hello_login

PREFIX = "constant "


def main(global_config: dict[str, str], **ini: str) -> Any:
    """Return the application, after setting the constants of [app:main]."""
    for name in [name for name in ini if name.startswith(PREFIX)]:
        set_constant(name.removeprefix(PREFIX), ini.pop(name))
    return hello_login.main(global_config, **ini)


def set_constant(name: str, value: str) -> None:
    """Set a module's constant to a number; for a timedelta, value is in seconds.

    Raises AttributeError if there is no such constant.
    """
    module_name, _, constant = name.rpartition(".")
    module = importlib.import_module(module_name)
    current = getattr(module, constant)
    if isinstance(current, timedelta):
        setattr(module, constant, timedelta(seconds=float(value)))
    else:
        setattr(module, constant, type(current)(value))
