"""The console script pserve: Pyramid's, but it finds the packaged .ini files too.

Pyramid has no hook for that: plaster chooses the loader by the extension of the file, and refuses a
second loader for .ini.
"""

import sys

from pyramid.scripts import pserve

from .. import ini_files


def main(argv: list[str] | None = None) -> int | None:
    """Run Pyramid's pserve, and return its exit code.

    Raises SystemExit with a sentence if the .ini file or an argument after it can't be used.
    """
    arguments = list(sys.argv if argv is None else argv)
    given = pserve.PServeCommand.parser.parse_args(arguments[1:])
    for each in given.config_vars:
        if "=" not in each:
            raise SystemExit(f"Can't use {each!r}: write NAME=VALUE, such as http_port=8000.")
    if given.config_uri is not None:
        arguments[arguments.index(given.config_uri)] = ini_files.find(given.config_uri)
    status: int | None = pserve.main(arguments)
    return status
