"""Messages are plain text in the format of RFC 5322."""

import re
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest

from hello_login.mail import messages
from hello_login.mail.messages import compose

SENT_AT = datetime(2026, 11, 24, 23, 30, tzinfo=timezone(timedelta(hours=2)))


def write_and_read(template: str = "new_device", **changes: Any) -> tuple[bytes, EmailMessage]:
    """Return a message as it is sent, and as a mail program reads it."""
    facts = {
        "sender": "Hello Login <login@example.org>",
        "recipient": "ada@example.com",
        "created_at": SENT_AT,
        "site": "https://login.example.org",
        "site_name": "Ada's Notes",
        "from_address": "192.0.2.1",
        "device": "Firefox on Linux",
        **changes,
    }
    raw = compose(template, **facts).as_bytes()
    return raw, message_from_bytes(raw, policy=default)


def test_a_mail_has_the_headers_that_mail_programs_expect() -> None:
    raw, message = write_and_read()
    assert [name.lower() for name in message] == [
        *("from", "to", "subject", "date", "message-id", "auto-submitted"),
        *("content-type", "content-transfer-encoding", "mime-version"),
    ]
    assert message["From"].addresses == (Address("Hello Login", "login", "example.org"),)
    assert message["To"].addresses == (Address("", "ada", "example.com"),)
    assert message["Subject"] == "A login from a new device"
    assert message["Auto-Submitted"] == "auto-generated"
    assert abs(message["Date"].datetime - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert re.fullmatch(r"<[^@<> ]+@example\.org>", message["Message-ID"])
    assert message.get_content_type() == "text/plain"
    assert message.defects == []
    assert raw.count(b"\n") == raw.count(b"\r\n")


def test_two_mails_have_different_message_ids() -> None:
    assert write_and_read()[1]["Message-ID"] != write_and_read()[1]["Message-ID"]


def test_a_notice_tells_when_in_utc_and_from_where() -> None:
    text = write_and_read()[1].get_content()
    assert "24 November 2026, 21:30 UTC" in text
    assert "192.0.2.1" in text
    assert "Firefox on Linux" in text
    by_operator = write_and_read(from_address=None)[1].get_content()
    assert "By:       an operator of the site" in by_operator
    assert "Firefox" not in by_operator


@pytest.mark.parametrize(
    ("kind", "subject", "pages"),
    [
        ("factor_added", "An authenticator app was added to your account", ["/forgot"]),
        (
            "factor_removed",
            "The authenticator app was removed from your account",
            ["/forgot", "/account/passkeys"],
        ),
        (
            "passkey_added",
            "A passkey was added to your account",
            ["/account/passkeys", "/forgot"],
        ),
        (
            "passkey_removed",
            "A passkey was removed from your account",
            ["/forgot", "/account/passkeys"],
        ),
    ],
)
def test_a_notice_about_a_second_factor_links_to_what_helps_if_it_was_somebody_else(
    kind: str, subject: str, pages: list[str]
) -> None:
    message = write_and_read(kind)[1]
    assert message["Subject"] == subject
    _, _, remedy = message.get_content().partition("If it was not you")
    assert re.findall(r"https://login\.example\.org(/\S+)", remedy) == pages


@pytest.mark.parametrize(
    "kind",
    [
        *("change_asked", "code_used", "codes_made"),
        *("new_device", "password_changed", "password_reset"),
    ],
)
def test_a_notice_of_a_possible_theft_tells_that_a_new_password_leaves_passkeys(kind: str) -> None:
    text = write_and_read(kind)[1].get_content()
    _, told, remedy = text.partition("Passkeys go on working.")
    assert told
    assert "https://login.example.org/account/passkeys" in remedy


@pytest.mark.parametrize("recipient", ["ada@example.com", "jürgen@exämple.com"])
def test_text_that_a_user_typed_is_not_in_the_subject(recipient: str) -> None:
    typed = {"device": "<b>Ünïcode</b>", "from_address": "typed"}
    message = write_and_read(recipient=recipient, **typed)[1]
    assert message["Subject"] == "A login from a new device"
    assert "<b>Ünïcode</b>" in message.get_content()


def test_text_that_is_not_ascii_is_sent_in_ascii() -> None:
    raw, message = write_and_read(device="Ünïcode 電話 on Linux", sender="Löwe <a@example.org>")
    assert raw.isascii()
    assert "Device:   Ünïcode 電話 on Linux" in message.get_content()
    assert message["From"].addresses[0].display_name == "Löwe"


@pytest.mark.parametrize("text", ["x" * 5000, "ü" * 5000])
def test_no_line_is_longer_than_998_characters(text: str) -> None:
    raw, message = write_and_read(device=text)
    assert max(len(line) for line in raw.splitlines()) <= 998
    assert text in message.get_content()


@pytest.mark.parametrize(
    "recipient",
    [
        "ada@example.com\nBcc: eve@example.com",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com, eve@example.com",
        "ada\n@example.com",
        "Ada <ada@example.com>",
        "ada",
        "",
        "ada@example.com\0",
        "=?utf-8?q?ada=0d=0ax?=@example.com",
    ],
)
def test_text_that_is_not_exactly_one_address_is_refused_as_recipient(recipient: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        write_and_read(recipient=recipient)


def test_a_line_break_in_a_fact_adds_no_header() -> None:
    message = write_and_read(device="Firefox\r\nBcc: eve@example.com\n\n.\nQUIT")[1]
    assert message["Bcc"] is None
    assert "Bcc: eve@example.com" in message.get_content()


def test_a_line_break_in_the_sender_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        write_and_read(sender="Hello\nBcc: eve@example.com <login@example.org>")


@pytest.mark.parametrize("deactivated", [False, True])
def test_every_subject_and_text_is_in_ascii_and_fits_a_line(deactivated: bool) -> None:
    for name in messages.TEMPLATES.list_templates():
        text = messages.TEMPLATES.get_template(name).render(
            site="",
            site_name="",
            link="",
            created_at=SENT_AT,
            from_address="",
            device="",
            deactivated=deactivated,
        )
        assert text.isascii()
        assert len(text.partition("\n")[0]) <= 60, name
