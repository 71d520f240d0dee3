"""What may be typed.

The length of what was typed is checked before anything whose time grows faster than it.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from email_validator import EmailNotValidError, validate_email
from wtforms import BooleanField, EmailField, HiddenField, PasswordField, StringField
from wtforms import Form as BaseForm
from wtforms.validators import (
    DataRequired,
    EqualTo,
    InputRequired,
    StopValidation,
    ValidationError,
)

from ..auth.passwords import NFD_GROWTH, PasswordRefused, Passwords

LONGEST_NAME = 100

JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner: Persian, scripts of India, and emoji are written with them."""

BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Unicode calls them letters and a symbol: the fillers of Hangul, and Braille without a dot."""

LONGEST_EMAIL = 254
"""RFC 5321, 4.5.3.1.3: a path has 256 octets, of which two are its brackets."""

LONG_LABEL = re.compile(r"[^.\u3002\uff0e\uff61]{64}")
"""RFC 1035, 2.3.4: a label of a domain has 63 octets.  The dots are those of IDNA."""

LONGEST_NEXT = 2000
"""Of every address of this site, with room to spare."""


class Form(BaseForm):
    """A form that knows what is wrong with it, and where to begin."""

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong, and the id of the field where it can be mended."""
        of_fields = [(field.id, error) for field in self for error in field.errors]
        return [(self.focus(), error) for error in self.form_errors] + of_fields

    def focus(self) -> str:
        """The id of the field to begin with: the first, of those that have to be typed again."""
        fields = [field for field in self if not isinstance(field, HiddenField)]
        wrong = [field for field in fields if field.errors]
        emptied = [field for field in fields if self.form_errors and field.type == "PasswordField"]
        return str((wrong or emptied or fields)[0].id)


class AtMost:
    """Refuse a text of more characters, and ask no further validator about it."""

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.field_flags = {"maxlength": characters}

    def __call__(self, _form: BaseForm, field: StringField) -> None:
        """Raise StopValidation if the field's text is too long."""
        if len(field.data or "") > self.characters:
            raise StopValidation(f"Use no more than {self.characters} characters.")


def _up_to(characters: int, change: Callable[[str], str]) -> Callable[[str | None], str | None]:
    """Return a filter that changes a text, and leaves one of more characters as it is."""
    return lambda text: change(text) if text and len(text) <= characters else text


def _normalize_name(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _is_control(character: str) -> bool:
    """Return whether it is a control or format character, or separates lines or paragraphs."""
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def _is_seen(character: str) -> bool:
    """Return whether the character shows something where it stands alone."""
    blank = character in BLANK_LETTERS or unicodedata.category(character)[0] in "ZM"
    return not (blank or _is_control(character))


def _email_field(autocomplete: str) -> EmailField:
    return EmailField(
        "Email address",
        [AtMost(LONGEST_EMAIL), DataRequired("Type your email address.")],
        filters=[_up_to(LONGEST_EMAIL, str.strip)],
        render_kw={"autocomplete": autocomplete},
    )


def local_path(target: str | None) -> str | None:
    r"""The target, if a redirect to it can lead nowhere but to this site; None otherwise.

    One slash must come first, and no slash after it.  Only printable ASCII may follow, as in every
    URL that a browser sends; and no backslash, which browsers take for a slash.
    """
    if target and len(target) <= LONGEST_NEXT and re.fullmatch(r"/(?!/)[!-\[\]-~]*", target):
        return target
    return None


def normalize_email(address: str) -> str:
    """The address in the form that is stored and compared.

    Raises EmailNotValidError, whose text says what is wrong.
    """
    # The time to encode a label grows with its square.
    if LONG_LABEL.search(unicodedata.normalize("NFC", address.rpartition("@")[2])):
        raise EmailNotValidError("Use no more than 63 characters between two dots.")
    return validate_email(address, check_deliverability=False).normalized


def _password_field(label: str, autocomplete: str, *validators: Any) -> PasswordField:
    attributes = {"autocomplete": autocomplete, "autocapitalize": "none", "spellcheck": "false"}
    return PasswordField(label, validators, render_kw=attributes)


class LoginForm(Form):
    """Log in.  An address that is none is as unknown as any other.

    next: where to go on.
    """

    email = _email_field("username")
    password = _password_field("Password", "current-password", InputRequired("Type your password."))
    remember = BooleanField("Stay logged in on this device")
    next = HiddenField(filters=[local_path])

    def normalized_email(self) -> str:
        """The address as registration would have stored it."""
        try:
            return normalize_email(self.email.data or "")
        except EmailNotValidError:
            return self.email.data or ""


class ReauthenticateForm(Form):
    """Ask somebody who is logged in for the password."""

    current = _password_field(
        "Your password", "current-password", InputRequired("Type your password.")
    )


class PersonForm(Form):
    """Who somebody is."""

    name = StringField(
        "Name",
        [AtMost(LONGEST_NAME), DataRequired("Type the name to greet you by.")],
        filters=[_up_to(LONGEST_NAME * NFD_GROWTH, _normalize_name)],
        render_kw={"autocomplete": "name", "dir": "auto"},
    )
    email = _email_field("email")

    def validate_name(self, field: StringField) -> None:
        """Refuse a name that shows nothing, or breaks the line or turns the text around it."""
        name = field.data or ""
        if not any(_is_seen(character) for character in name):
            raise ValidationError("This name shows nothing: use a letter, a digit or a symbol.")
        if any(_is_control(character) and character not in JOINERS for character in name):
            raise ValidationError(
                "Use a name of one line, without control characters and invisible ones."
            )

    def validate_email(self, field: EmailField) -> None:
        """Normalize the address."""
        try:
            field.data = normalize_email(field.data or "")
        except EmailNotValidError as error:
            message = f"{error} An address looks like name@example.org."
            raise ValidationError(message) from error


class NewPasswordForm(Form):
    """A new password, typed twice.

    passwords: the rules that it must meet.  personal: its owner's name and address.
    """

    password = _password_field("Password", "new-password", InputRequired("Choose a password."))
    confirm = _password_field(
        "Password, once more",
        "new-password",
        InputRequired("Type the password once more."),
        EqualTo("password", "The two passwords differ: type the same one in both."),
    )

    def __init__(
        self, formdata: Any, passwords: Passwords, *personal: str, data: Any = None
    ) -> None:
        super().__init__(formdata, data=data)
        self._passwords = passwords
        self._personal = personal

    def personal(self) -> tuple[str, ...]:
        """What the password must not be."""
        return self._personal

    def validate_password(self, field: PasswordField) -> None:
        """The same check as when it is hashed, here to be told together with all else."""
        try:
            self._passwords.check(field.data or "", *self.personal())
        except PasswordRefused as error:
            raise ValidationError(str(error)) from error


class RegisterForm(NewPasswordForm, PersonForm):
    """Register.  next: where to go on, as of LoginForm."""

    next = HiddenField(filters=[local_path])

    def personal(self) -> tuple[str, ...]:
        """Return the name and the address typed with it, each cut to its greatest length."""
        # They may have been refused as too long, and the time of the check grows with their length.
        return (self.name.data or "")[:LONGEST_NAME], (self.email.data or "")[:LONGEST_EMAIL]


class ProfileForm(PersonForm):
    """Change name and address; the password is for another address alone."""

    current = _password_field("Your password", "current-password")


class PasswordForm(NewPasswordForm, ReauthenticateForm):
    """Change the password."""

    def __init__(self, formdata: Any, passwords: Passwords, *personal: str) -> None:
        super().__init__(formdata, passwords, *personal)
        self.current.label.text = "Current password"
        self.password.label.text = "New password"
        self.confirm.label.text = "New password, once more"

    def validate_password(self, field: PasswordField) -> None:
        """Another one than before."""
        if field.data == self.current.data:
            raise ValidationError("This is the password that you have: choose another one.")
        super().validate_password(field)
