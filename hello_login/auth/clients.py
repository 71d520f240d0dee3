"""What is known of who asks, before any login: the network, the device."""

import re
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

# The first that fits: most browsers say that they are others, too.
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
factor of its rate limits.  A wider network may be several customers': its limits are higher."""


class DeviceCookie(NamedTuple):
    """A device that has logged in to an account before."""

    auth_hash: str
    """Of the account's password, then."""

    id: str


class Client(NamedTuple):
    """Who asks."""

    address: str | None = None
    """The IP address, if there is one."""

    device: str = "Unknown device"
    """In words."""

    known: DeviceCookie | None = None
    request_id: str | None = None

    @property
    def networks(self) -> dict[str, int]:
        """Return the networks that may be one customer's, each with the factor of its limits.

        That is an IPv4 address, or the IPV6_NETWORKS around an IPv6 address.
        """
        if self.address and ":" in self.address:
            return {
                str(ip_network((self.address, length), strict=False)): factor
                for length, factor in IPV6_NETWORKS.items()
            }
        return {str(self.address): 1}


@lru_cache(1024)
def parse_address(text: str | None) -> str | None:
    """An IP address in its usual form; None for what is none, as a proxy may send."""
    try:
        address = ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def describe_device(user_agent: str | None) -> str:
    """The device in words, such as "Firefox on Windows", by its User-Agent header."""

    def first(choices: list[tuple[str, str]]) -> str:
        found = (name for name, sign in choices if re.search(sign, user_agent or ""))
        return next(found, "")

    browser, system = first(BROWSERS), first(SYSTEMS)
    if browser and system:
        return f"{browser} on {system}"
    return browser or (f"A browser on {system}" if system else Client().device)
