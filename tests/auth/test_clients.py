"""The client of a request: its address, networks and device."""

import pytest

from hello_login.auth.clients import Client, describe_device, parse_address

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (f"{CHROME} Safari/537.36", "Chrome on Linux"),
        (f"{CHROME} Safari/537.36 Edg/140.0.0.0", "Edge on Linux"),
        (f"{CHROME} Safari/537.36 OPR/122.0.0.0", "Opera on Linux"),
        (f"{IPHONE} (KHTML, like Gecko) Version/18.6 Safari/604.1", "Safari on an iPhone"),
        (f"{IPHONE} (KHTML, like Gecko) CriOS/140.0 Safari/604.1", "Chrome on an iPhone"),
        ("Mozilla/5.0 (Android 16; Mobile; rv:143.0) Firefox/143.0", "Firefox on Android"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:143.0) Firefox/143.0", "Firefox on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Safari/605.1.15", "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("Something (Windows)", "A browser on Windows"),
        ("<script>alert(1)</script>", "Unknown device"),
        (None, "Unknown device"),
    ],
)
def test_a_device_is_described_without_quoting_its_user_agent(user_agent: str, words: str) -> None:
    assert describe_device(user_agent) == words


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("", None),
        (None, None),
    ],
)
def test_an_ip_address_is_normalized(text: str | None, address: str | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("address", "networks"),
    [
        ("192.0.2.1", {"192.0.2.1": 1}),
        (
            "2001:db8:1:fff2:3:4:5:6",
            {"2001:db8:1:fff2::/64": 1, "2001:db8:1:ff00::/56": 2, "2001:db8:1::/48": 4},
        ),
        (None, {"None": 1}),
    ],
)
def test_a_client_belongs_to_one_ipv4_network_or_three_ipv6_networks(
    address: str | None, networks: dict[str, int]
) -> None:
    assert Client(address).networks == networks
