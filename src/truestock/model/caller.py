"""Callers: what an API key may do, and to which sources and locations."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import msgspec


class Scope(StrEnum):
    """What a key is for; admin implies all."""

    AVAILABILITY_READ = "availability:read"
    RESERVATIONS_WRITE = "reservations:write"
    ORDERS_WRITE = "orders:write"
    STOCK_WRITE = "stock:write"
    FULFILMENT_WRITE = "fulfilment:write"
    INSIGHT_READ = "insight:read"
    ADMIN = "admin"


class Caller(msgspec.Struct, frozen=True):
    """Who calls. Empty sources or locations mean that the key is bound to none of them."""

    key_id: str
    name: str
    scopes: frozenset[str]
    sources: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    expires_at: datetime | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """A caller as the database knows it."""
        return cls(
            row["key_id"],
            row["name"],
            frozenset(row["scopes"]),
            frozenset(row["sources"]),
            frozenset(row["locations"]),
            row["expires_at"],
        )

    def valid_at(self, now: datetime) -> bool:
        """Whether the key has not run out."""
        return self.expires_at is None or self.expires_at > now

    def may(self, scope: Scope) -> bool:
        """Whether the key has this scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def sees_source(self, source: str) -> bool:
        """Whether the source is this caller's business at all."""
        return not self.sources or source in self.sources

    def sees_location(self, location: str) -> bool:
        """Whether the location is this caller's business at all."""
        return not self.locations or location in self.locations
