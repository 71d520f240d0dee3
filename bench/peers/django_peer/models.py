"""The tables as Django sees them."""

from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.db import models
from django.db.models.functions import Lower

models.TextField.register_lookup(Lower)


class Argon2(Argon2PasswordHasher):
    """The costs of all peers."""

    time_cost = 2
    memory_cost = 19456
    parallelism = 1

    def must_update(self, encoded: str) -> bool:
        """Django's salts are longer; but it would replace each hash that others made."""
        current, wanted = self.decode(encoded)["params"], self.params()
        wanted.salt_len = current.salt_len
        return bool(current != wanted)


class HashField(models.TextField):
    """Django wants the algorithm's name before the hash; the table has the hash alone."""

    def from_db_value(self, value: str, *_: Any) -> str:
        """As Django wants it."""
        return f"{Argon2.algorithm}{value}"

    def get_prep_value(self, value: str) -> str:
        """As it is stored."""
        return str(super().get_prep_value(value)).removeprefix(Argon2.algorithm)


class UserManager(BaseUserManager):
    """Finds people by address, whatever its case, as the table's index does."""

    def get_by_natural_key(self, username: str) -> Any:
        """The user of the address."""
        return self.get(email__lower=username.lower())


class User(AbstractBaseUser):
    """An account."""

    id = models.BigAutoField(primary_key=True)
    email = models.TextField()
    name = models.TextField()
    password = HashField(db_column="password_hash")
    created_at = models.DateTimeField(auto_now_add=True)
    last_login = models.DateTimeField(db_column="last_login_at", null=True)

    USERNAME_FIELD = "email"
    objects = UserManager()

    class Meta:
        managed = False
        db_table = "users"

    @property
    def last_login_at(self) -> Any:
        """As the templates call it."""
        return self.last_login


class LoginSession(models.Model):
    """Where somebody is logged in."""

    id = models.BinaryField(primary_key=True)
    user = models.ForeignKey(User, models.CASCADE)
    created_at = models.DateTimeField(auto_now_add=True)
    last_seen_at = models.DateTimeField(auto_now_add=True)
    idle_limit = models.DurationField()
    expires_at = models.DateTimeField()
    remembered = models.BooleanField(default=False)
    address = models.GenericIPAddressField(null=True)
    device = models.TextField()

    class Meta:
        managed = False
        db_table = "sessions"


class Event(models.Model):
    """What happened to an account."""

    id = models.BigAutoField(primary_key=True)
    happened_at = models.DateTimeField(auto_now_add=True)
    event = models.TextField()
    user = models.ForeignKey(User, models.CASCADE)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        managed = False
        db_table = "account_events"
