"""A phone with an authenticator app: it scans QR codes and shows codes, without our own code."""

import io
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyotp

STEP = 30
"""The time in seconds for which a code is shown."""

ZBARIMG, OATHTOOL = shutil.which("zbarimg"), shutil.which("oathtool")
"""Debian has these programs.  A machine without them does with the packages of Python."""


class Phone:
    """An authenticator app with one account."""

    def __init__(self, uri: str) -> None:
        """Add the account of a QR code.

        uri: the text of the QR code, which names the account and has the secret.
        """
        self._app: Any = pyotp.parse_uri(uri)
        self._last_step = 0

    @classmethod
    def scan(cls, page: Any) -> "Phone":
        """Return a phone that has scanned the QR code on the page."""
        (uri,) = read_qr_codes(page.screenshot(full_page=True))
        return cls(uri)

    @property
    def issuer(self) -> str:
        return str(self._app.issuer)

    @property
    def account(self) -> str:
        return str(self._app.name)

    @property
    def secret(self) -> str:
        return str(self._app.secret)

    def code(self, steps_from_now: int = 0) -> str:
        """Return the code for now, or for a step before or after."""
        moment = int(time.time()) + steps_from_now * STEP
        code = str(self._app.at(moment))
        if OATHTOOL:
            assert _run(OATHTOOL, "--totp", "--base32", self.secret, f"--now=@{moment}") == code
        return code

    def unused_code(self) -> str:
        """Return the code for now, or for the step after the last one that this has returned.

        The site accepts a code once, and half a minute too early.
        """
        now = int(time.time()) // STEP
        self._last_step = max(now, self._last_step + 1)
        return self.code(self._last_step - now)


def read_qr_codes(picture: bytes) -> list[str]:
    """Return the texts of the QR codes in a PNG file."""
    import zxingcpp
    from PIL import Image

    texts = [found.text for found in zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))]
    if ZBARIMG:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            path.write_bytes(picture)
            assert _run(ZBARIMG, "--quiet", "--raw", str(path)).splitlines() == texts
    return texts


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
