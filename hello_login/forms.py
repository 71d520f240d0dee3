"""What may be typed."""

import unicodedata
from typing import Any

from email_validator import EmailNotValidError, validate_email
from wtforms import BooleanField, EmailField, Form, HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired, EqualTo, InputRequired, Length, ValidationError

from .passwords import PasswordRefused, Passwords


def _strip(text: str | None) -> str | None:
    return text and text.strip()


def _normalize_name(text: str | None) -> str | None:
    return text and unicodedata.normalize("NFC", text.strip())


def _email_field() -> EmailField:
    return EmailField(
        "E-mail address",
        [DataRequired("Type your e-mail address.")],
        filters=[_strip],
        render_kw={"autocomplete": "username"},
    )


def normalize_email(address: str) -> str:
    """The address in the form that is stored and compared.

    Raises EmailNotValidError, whose text says what is wrong.
    """
    return validate_email(address, check_deliverability=False).normalized


def _password_field(label: str, message: str, autocomplete: str) -> PasswordField:
    return PasswordField(label, [InputRequired(message)], render_kw={"autocomplete": autocomplete})


class LoginForm(Form):
    """Log in.  An address that is none is as unknown as any other."""

    email = _email_field()
    password = _password_field("Password", "Type your password.", "current-password")
    remember = BooleanField("Stay logged in on this device")
    next = HiddenField()

    def address(self) -> str:
        """The address as registration would have stored it."""
        try:
            return normalize_email(self.email.data or "")
        except EmailNotValidError:
            return self.email.data or ""


class ConfirmForm(Form):
    """Ask somebody who is logged in for the password."""

    current = _password_field("Your password", "Type your password.", "current-password")


class PersonForm(Form):
    """Who somebody is."""

    name = StringField(
        "Name",
        [
            DataRequired("Type the name to greet you by."),
            Length(max=100, message="Use no more than %(max)d characters."),
        ],
        filters=[_normalize_name],
        render_kw={"autocomplete": "name"},
    )
    email = _email_field()

    def validate_name(self, field: StringField) -> None:
        """Any characters but control characters."""
        if any(unicodedata.category(character) == "Cc" for character in field.data or ""):
            raise ValidationError("Use a name of one line, without control characters.")

    def validate_email(self, field: EmailField) -> None:
        """Normalize the address."""
        try:
            field.data = normalize_email(field.data or "")
        except EmailNotValidError as error:
            raise ValidationError(str(error)) from error


class NewPasswordForm(Form):
    """A new password, typed twice.

    passwords: the rules that it must meet.  personal: its owner's name and address.
    """

    password = _password_field("Password", "Choose a password.", "new-password")
    confirm = PasswordField(
        "Password, once more",
        [
            InputRequired("Type the password once more."),
            EqualTo("password", "The two passwords differ: type the same one in both."),
        ],
        render_kw={"autocomplete": "new-password"},
    )

    def __init__(self, formdata: Any, passwords: Passwords, *personal: str) -> None:
        super().__init__(formdata)
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
    """Register."""

    def personal(self) -> tuple[str, ...]:
        """The name and the address that are typed with it."""
        return self.name.data or "", self.email.data or ""


class ProfileForm(PersonForm):
    """Change name and address; the password is for another address alone."""

    current = PasswordField("Your password", render_kw={"autocomplete": "current-password"})


class PasswordForm(NewPasswordForm, ConfirmForm):
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
