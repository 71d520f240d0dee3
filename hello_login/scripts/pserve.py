"""The console script pserve: Pyramid's, but it finds the packaged .ini files too.

Pyramid has no hook for that: plaster chooses the loader by the extension of the file, and refuses a
second loader for .ini.
"""

import sys

from pyramid.scripts import pserve

from .. import ini_files


def main(argv: list[str] | None = None) -> int | None:
    """Run Pyramid's pserve, and return its exit code.

    Raises SystemExit with a sentence if the .ini file can't be used.
    """
    arguments = list(sys.argv if argv is None else argv)
    given = pserve.PServeCommand.parser.parse_args(arguments[1:]).config_uri
    if given is not None:
        arguments[arguments.index(given)] = ini_files.find(given)
    status: int | None = pserve.main(arguments)
    return status
