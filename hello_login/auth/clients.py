"""The client that sends a request, as known before any login: its IP address and its device."""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

# The first match wins: most browsers claim to be others, too.
BROWSERS = [
    ("Edge", "Edg"),
    ("Opera", "OPR/"),
    ("Samsung Internet", "SamsungBrowser/"),
    ("Firefox", "Firefox/|FxiOS/"),
    ("Chrome", "Chrome/|CriOS/"),
    ("Safari", "Safari/"),
    ("curl", "curl/"),
]
SYSTEMS = [
    ("an iPhone", "iPhone"),
    ("an iPad", "iPad"),
    ("Android", "Android"),
    ("ChromeOS", "CrOS"),
    ("Windows", "Windows"),
    ("macOS", "Mac OS X"),
    ("Linux", "Linux"),
]

IPV6_NETWORKS = {64: 1, 56: 2, 48: 4}
"""Prefix lengths of the networks that providers assign to one customer (RFC 6177), each with the
factor of its rate limits.  A wider network may serve several customers: its limits are higher."""


class DeviceCookie(NamedTuple):
    """The content of the device cookie: this device has logged in to an account before."""

    auth_hash: str
    """The account's auth_hash at that login; a new password or another second factor changes it."""

    id: str


class Client(NamedTuple):
    """The client that sends a request."""

    address: str | None = None
    """The IP address, if there is one."""

    device: str = "Unknown device"
    """A description, such as "Firefox on Windows"."""

    known: DeviceCookie | None = None
    """The device cookie, if its signature is right."""

    request_id: str | None = None

    def is_known(self, auth_hash: str) -> bool:
        """Return whether the device cookie is from a login with this auth_hash."""
        return self.known is not None and self.known.auth_hash == auth_hash

    @property
    def networks(self) -> dict[str, int]:
        """Return the networks that may be one customer's, each with the factor of its limits.

        These are the IPv4 address itself, or the IPV6_NETWORKS that contain the IPv6 address.
        """
        if self.address and ":" in self.address:
            return {
                str(ip_network((self.address, length), strict=False)): factor
                for length, factor in IPV6_NETWORKS.items()
            }
        return {str(self.address): 1}


@lru_cache(1024)
def parse_address(text: str | None) -> str | None:
    """Return the IP address in canonical form, or None if the text (from a proxy) is not one."""
    try:
        address = ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def describe_device(user_agent: str | None) -> str:
    """Return a description of the device from a User-Agent header, such as "Firefox on Windows"."""

    def first(choices: list[tuple[str, str]]) -> str:
        found = (name for name, pattern in choices if re.search(pattern, user_agent or ""))
        return next(found, "")

    browser, system = first(BROWSERS), first(SYSTEMS)
    if browser and system:
        return f"{browser} on {system}"
    return browser or (f"A browser on {system}" if system else Client().device)
