"""The tables, for peers that use SQLAlchemy as it is; Flask's extension has a base of its own."""

from datetime import datetime, timedelta

from sqlalchemy import BigInteger, DateTime, ForeignKey, LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The columns' types are the tables'."""

    type_annotation_map = {  # noqa: RUF012
        int: BigInteger,
        str: Text,
        datetime: DateTime(timezone=True),
    }


class User(Base):
    """An account."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_login_at: Mapped[datetime | None]
    is_authenticated = True  # as the templates ask, who can't tell None from others' anonymous user


class LoginSession(Base):
    """Where somebody is logged in."""

    __tablename__ = "sessions"
    id: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    idle_limit: Mapped[timedelta]
    expires_at: Mapped[datetime]
    remembered: Mapped[bool] = mapped_column(default=False)
    address: Mapped[str | None] = mapped_column(INET)
    device: Mapped[str]


class Event(Base):
    """What happened to an account."""

    __tablename__ = "account_events"
    id: Mapped[int] = mapped_column(primary_key=True)
    happened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    event: Mapped[str]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    address: Mapped[str | None] = mapped_column(INET)
