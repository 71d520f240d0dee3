"""argon2id, for the peers whose framework does not hash passwords itself."""

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

_hasher = PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
hash_password = _hasher.hash


def matches(password_hash: str, password: str) -> bool:
    """Whether this is the hashed password."""
    try:
        return _hasher.verify(password_hash, password)
    except VerifyMismatchError:
        return False
