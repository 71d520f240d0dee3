"""A device that keeps passkeys: Chromium's virtual authenticator."""

from typing import Any

OPTIONS = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
}


class Authenticator:
    """The authenticator of a page and of the next pages in its tab.

    Its owner accepts each request at once, even that of autofill.
    """

    def __init__(self, page: Any) -> None:
        self._devtools = page.context.new_cdp_session(page)
        self._devtools.send("WebAuthn.enable")
        added = self._devtools.send("WebAuthn.addVirtualAuthenticator", {"options": OPTIONS})
        self._id = added["authenticatorId"]

    @property
    def passkeys(self) -> list[Any]:
        """The passkeys that it keeps."""
        return list(self._send("getCredentials")["credentials"])

    def set_owner(self, *, present: bool = True, verified: bool = True) -> None:
        """Say how the owner reacts to the next requests.

        present: accepts them; if not, a request waits until the page ends it.
        verified: has the right finger or PIN; if not, a request fails.
        """
        self._send("setAutomaticPresenceSimulation", enabled=present)
        self._send("setUserVerified", isUserVerified=verified)

    def remove(self) -> None:
        """Take the authenticator away from the page."""
        self._send("removeVirtualAuthenticator")
        self._devtools.detach()

    def _send(self, command: str, **fields: bool) -> Any:
        return self._devtools.send(f"WebAuthn.{command}", {"authenticatorId": self._id, **fields})
