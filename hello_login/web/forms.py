"""Form definitions: validation and normalization of user input.

Each field's length is checked before any step whose time grows faster than the length.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

from email_validator import EmailNotValidError
from markupsafe import Markup
from wtforms import BooleanField, EmailField, HiddenField, PasswordField, StringField
from wtforms import Form as BaseForm
from wtforms.validators import DataRequired, EqualTo, InputRequired, StopValidation, ValidationError

from ..auth import second_factor
from ..auth.addresses import normalize_email
from ..auth.passwords import NFD_GROWTH, PasswordRefused, Passwords
from ..values import LOCAL_PATH

MAX_NAME_LENGTH = 100

JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner, which Persian, Indian scripts and emoji need."""

BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Blank characters that Unicode counts as letters or symbols: Hangul fillers and empty Braille."""

MAX_EMAIL_LENGTH = 254
"""RFC 5321, 4.5.3.1.3: a path has at most 256 octets, and two of them are its brackets."""

MAX_NEXT_LENGTH = 2000
"""Characters.  All URLs of this site are shorter."""

MAX_CODE_LENGTH = 100
"""Characters.  A recovery code with blanks between its letters is shorter."""

MAX_SETUP_LENGTH = 500
"""Characters.  An encrypted secret is shorter."""


class Form(BaseForm):
    """The base of all forms.  Without a subclass, it is a form with a button only."""

    def field_problems(self) -> list[tuple[str, str]]:
        """Return a pair for each error of a field: the field's id, and the message.

        A message is cut off before a link in it, because the page makes a link of the message.
        """
        return [
            (field.id, error.partition(Markup("<a "))[0] if isinstance(error, Markup) else error)
            for field in self
            for error in field.errors
        ]

    def focus_id(self) -> str:
        """Return the id of the first field to fill in or to correct, or else of the first field.

        For a form without fields, return the id of the page's content.
        """
        fields = [field for field in self if not isinstance(field, HiddenField)]
        wrong = [field for field in fields if field.errors]
        # A password is never sent back to the browser.
        emptied = [field for field in fields if self.form_errors and field.type == "PasswordField"]
        empty = [field for field in fields if not field.data]
        chosen = wrong or emptied or empty or fields
        return str(chosen[0].id) if chosen else "content"


class MaxLength:
    """A validator that refuses a longer text and stops the validators after it."""

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.field_flags = {"maxlength": characters}

    def __call__(self, _form: BaseForm, field: StringField) -> None:
        if len(field.data or "") > self.characters:
            raise StopValidation(f"Use no more than {self.characters} characters.")


def _filter_up_to(
    characters: int, change: Callable[[str], str]
) -> Callable[[str | None], str | None]:
    """Return a filter that changes texts up to this length, and returns longer ones unchanged."""
    return lambda text: change(text) if text and len(text) <= characters else text


def _normalize_name(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _normalize_code(text: str) -> str:
    """Return only letters, in upper case, and digits: people also copy blanks and hyphens."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text)).upper()


def _is_control(character: str) -> bool:
    """Return whether this is a control or format character, or a line or paragraph separator."""
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def _is_visible(character: str) -> bool:
    """Return whether the character is visible when it stands alone."""
    blank = character in BLANK_LETTERS or unicodedata.category(character)[0] in "ZM"
    return not (blank or _is_control(character))


def _email_field(autocomplete: str) -> EmailField:
    return EmailField(
        "Email address",
        [MaxLength(MAX_EMAIL_LENGTH), DataRequired("Type your email address.")],
        filters=[_filter_up_to(MAX_EMAIL_LENGTH, str.strip)],
        render_kw={"autocomplete": autocomplete},
    )


def safe_local_path(target: str | None) -> str | None:
    """Return the target of a redirect if it stays on this site, or else None."""
    if target and len(target) <= MAX_NEXT_LENGTH and LOCAL_PATH.fullmatch(target):
        return target
    return None


def _password_field(
    label: str, autocomplete: str, *validators: Any, **attributes: Any
) -> PasswordField:
    attributes |= {"autocomplete": autocomplete, "autocapitalize": "none", "spellcheck": "false"}
    return PasswordField(label, validators, render_kw=attributes)


class PasskeyForm(Form):
    """A form that accepts a passkey in place of its fields.

    credential: the browser's answer in JSON, which the page's script stores.
    """

    credential = HiddenField()

    signals: str | None = None
    """Calls of the browser's Signal API that the page makes (ceremonies.RelyingParty)."""

    def focus_id(self) -> str:
        """Return the id of the passkey button if a passkey was refused, or else of a field."""
        is_refused = self.credential.data and self.form_errors
        return "use-passkey" if is_refused else super().focus_id()


def _code_field() -> StringField:
    return StringField(
        "Code",
        [MaxLength(MAX_CODE_LENGTH), InputRequired("Type the code.")],
        filters=[_filter_up_to(MAX_CODE_LENGTH, _normalize_code)],
        render_kw={"autocomplete": "one-time-code", "inputmode": "numeric", "spellcheck": "false"},
    )


def _name_field(label: str, missing: str, autocomplete: str) -> StringField:
    """Return the field of a name.  missing: the message if it is empty."""
    return StringField(
        label,
        [MaxLength(MAX_NAME_LENGTH), DataRequired(missing)],
        filters=[_filter_up_to(MAX_NAME_LENGTH * NFD_GROWTH, _normalize_name)],
        render_kw={"autocomplete": autocomplete, "dir": "auto"},
    )


class LoginForm(PasskeyForm):
    """The login form.  A malformed address is treated as an unknown one.

    next: the local URL to redirect to after the login.
    """

    # The last word lets browsers suggest passkeys in this field.
    email = _email_field("username webauthn")
    password = _password_field("Password", "current-password", InputRequired("Type your password."))
    remember = BooleanField("Stay logged in on this device")
    next = HiddenField(filters=[safe_local_path])

    def normalized_email(self) -> str:
        """Return the address as registration stores it, or unchanged if it is malformed."""
        try:
            return normalize_email(self.email.data or "")
        except EmailNotValidError:
            return self.email.data or ""


class ReauthenticateForm(Form):
    """Ask a logged-in user for the current password."""

    current = _password_field(
        "Your password", "current-password", InputRequired("Type your password.")
    )


class CodeForm(PasskeyForm):
    """Ask for a code of the second factor: one of the authenticator app, or a recovery code.

    has_app: the account has an authenticator app.
    next: the local URL to redirect to after the login.
    """

    code = _code_field()
    next = HiddenField(filters=[safe_local_path])

    kind: Literal["app", "recovery"] = "app"
    """The kind of code that the form asks for.  It takes the other kind as well."""

    def __init__(self, formdata: Any, query: Any, *, has_app: bool) -> None:
        """Read the form, and the query of the page's URL."""
        super().__init__(formdata, data={"next": query.get("next")})
        self.has_app = has_app
        if query.get("with") == "recovery" or not has_app:
            self.kind = "recovery"
            self.code.label.text = "Recovery code"
            # A phone's keyboard shows letters.
            self.code.render_kw = {
                "autocomplete": "off",
                "autocapitalize": "characters",
                "spellcheck": "false",
            }

    def validate_code(self, field: StringField) -> None:
        """Refuse text that can't be a code: otherwise it would count as a wrong code."""
        code = field.data or ""
        if not (second_factor.is_app_code(code) or second_factor.is_recovery_code(code)):
            of_app = "A code has 6 digits. " if self.has_app else ""
            of_recovery = "A recovery code has 24 letters and digits, without 0, 1, 8 and 9."
            raise ValidationError(of_app + of_recovery)


class ConfirmForm(CodeForm, ReauthenticateForm):
    """Ask a logged-in user for the password and, if there is a second factor, for a code."""

    def __init__(
        self, formdata: Any, query: Any, *, has_second_factor: bool, has_app: bool
    ) -> None:
        super().__init__(formdata, query, has_app=has_app)
        if not has_second_factor:
            del self.code


class TotpForm(Form):
    """Set up an authenticator app.

    setup: the secret that the page shows, encrypted.
    """

    setup = HiddenField(validators=[MaxLength(MAX_SETUP_LENGTH)])
    code = _code_field()

    def validate_code(self, field: StringField) -> None:
        """Refuse text that can't be a code of an app."""
        if not second_factor.is_app_code(field.data or ""):
            raise ValidationError("A code of the app has 6 digits.")


class NameForm(Form):
    """Ask for the user's name."""

    name = _name_field("Name", "Type your name.", "name")

    def validate_name(self, field: StringField) -> None:
        """Refuse a name that is invisible, breaks the line or reverses the text around it."""
        name = field.data or ""
        if not any(_is_visible(character) for character in name):
            raise ValidationError("This name shows nothing: use a letter, a digit or a symbol.")
        if any(_is_control(character) and character not in JOINERS for character in name):
            raise ValidationError("Use one line, without control characters or invisible ones.")


class PasskeyNameForm(NameForm):
    """Ask for the name of a passkey."""

    name = _name_field("Name of the passkey", "Type a name for the passkey.", "off")


class EmailForm(Form):
    """Ask for an email address."""

    email = _email_field("email")

    def validate_email(self, field: EmailField) -> None:
        """Replace the field's address with the normalized one, or refuse it."""
        try:
            field.data = normalize_email(field.data or "")
        except EmailNotValidError as error:
            raise ValidationError(f"{error} An address looks like name@example.org.") from error


class NameAndEmailForm(EmailForm, NameForm):
    """The fields that registration and the profile share: name and email address."""


class NewPasswordForm(Form):
    """Ask for a new password, which is typed twice.

    passwords: checks the new password.
    personal: the owner's name and address, if the form has no fields for them.
    """

    password = _password_field("Password", "new-password", InputRequired("Choose a password."))
    confirm = _password_field(
        "Repeat the password",
        "new-password",
        EqualTo("password", "The two passwords differ. Type the same one in both fields."),
        required="",
    )

    def __init__(
        self, formdata: Any, passwords: Passwords, *personal: str, data: Any = None
    ) -> None:
        super().__init__(formdata, data=data)
        self._passwords = passwords
        self._personal = personal

    def validate_password(self, field: PasswordField) -> None:
        """Refuse a weak password."""
        # A name or address may be too long.  The time of the check grows with the length.
        limits = {"name": MAX_NAME_LENGTH, "email": MAX_EMAIL_LENGTH}
        typed = [(self[name].data or "")[: limits[name]] for name in limits if name in self]
        # Passwords.hash() repeats the check.  Here, all fields get their messages at once.
        try:
            self._passwords.check(field.data or "", *typed, *self._personal)
        except PasswordRefused as error:
            raise ValidationError(str(error)) from error


class RegisterByLinkForm(NewPasswordForm, NameForm):
    """Register with the address to which a link was mailed."""


class RegisterForm(NewPasswordForm, NameAndEmailForm):
    """The registration form.

    next: the local URL to redirect to after the registration.
    """

    next = HiddenField(filters=[safe_local_path])


class PasswordForm(NewPasswordForm, ReauthenticateForm):
    """Change the password."""

    def __init__(self, formdata: Any, passwords: Passwords, *personal: str) -> None:
        super().__init__(formdata, passwords, *personal)
        self.current.label.text = "Current password"
        self.password.label.text = "New password"
        self.confirm.label.text = "Repeat the new password"

    def validate_password(self, field: PasswordField) -> None:
        """Refuse the current password and a weak one."""
        if field.data == self.current.data:
            raise ValidationError("This is your current password: choose another one.")
        super().validate_password(field)
