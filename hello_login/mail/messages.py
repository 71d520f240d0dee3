"""The text of each mail: each kind has a template, whose first line is the subject."""

from datetime import datetime, timezone
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import make_msgid
from pathlib import Path
from typing import Any

import jinja2
from email_validator import validate_email

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=False,  # noqa: S701 - the messages are plain text
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)

ASCII = SMTP.clone(cte_type="7bit")
"""Encodes all text in ASCII, because some servers take nothing else.  A local part that is not
ASCII stays as it is: it needs a server with SMTPUTF8 (RFC 6531)."""


def compose(
    template: str, *, sender: str, recipient: str, created_at: datetime, **facts: Any
) -> EmailMessage:
    """Return a message in plain text.

    template: the name of its template, without the suffix.  sender: as in MAIL_FROM.
    created_at, facts: the values that the template shows.
    Raises ValueError if the recipient is not one address.
    """
    created_at = created_at.astimezone(timezone.utc)
    text = TEMPLATES.get_template(f"{template}.txt").render(facts, created_at=created_at)
    subject, _, body = text.partition("\n\n")
    checked = validate_email(recipient, check_deliverability=False)
    if "=?" in checked.local_part:  # it would be decoded in the header, line ends included
        raise ValueError("The recipient is an encoded word")
    message = EmailMessage(ASCII)
    message["From"] = sender
    message["To"] = Address(username=checked.local_part, domain=checked.ascii_domain)
    message["Subject"] = subject
    message["Date"] = datetime.now(timezone.utc)
    message["Message-ID"] = make_msgid(domain=message["From"].addresses[0].domain)
    # RFC 3834: programs that answer mails do not answer this one.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(body)
    return message
