"""Email addresses, in the form that is stored and compared."""

import re
import unicodedata

from email_validator import EmailNotValidError, validate_email

LABEL_TOO_LONG = re.compile(r"[^.\u3002\uff0e\uff61]{64}")
"""RFC 1035, 2.3.4: a domain label has at most 63 octets.  The dots are those of IDNA."""


def normalize_email(address: str) -> str:
    """Return the address in the form that is stored and compared.

    Raises EmailNotValidError with a message for the user.
    """
    # The time to encode a label grows with the square of its length.
    if LABEL_TOO_LONG.search(unicodedata.normalize("NFC", address.rpartition("@")[2])):
        raise EmailNotValidError("Use no more than 63 characters between two dots.")
    # Mail headers decode "=?utf-8?q?a=0d=0a...?=", which is a local part as well (RFC 2047).
    if "=?" in address:
        raise EmailNotValidError("Use an address without =?.")
    return validate_email(address, check_deliverability=False).normalized
