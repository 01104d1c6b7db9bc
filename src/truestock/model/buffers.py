"""Buffers: what one channel and method may not sell, although it is available.

One whole rule wins, the most specific: sku before category, then location, then method, then
channel. Its safety_stock comes off after the level's own; its max_sellable caps what is left.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from truestock.config import MAX_QUANTITY
from truestock.model.stock import Name

Units = Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]


class BufferRule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A buffer and whom it is for; a missing selector fits everything. Quantities: base units."""

    channel: Name | None = None
    method: Name | None = None
    location: Name | None = None
    category: Name | None = None
    sku: Name | None = None
    safety_stock: Units = 0
    max_sellable: Units | None = None

    @property
    def rank(self) -> tuple[bool, bool, bool, bool, bool]:
        """How specific the rule is; the greater rank wins."""
        return (
            self.sku is not None,
            self.category is not None,
            self.location is not None,
            self.method is not None,
            self.channel is not None,
        )


NO_BUFFER = BufferRule()


def in_order(rules: Sequence[BufferRule]) -> tuple[BufferRule, ...]:
    """Rules from the most specific to the least; between equals the earlier one stays first."""
    return tuple(sorted(rules, key=lambda rule: rule.rank, reverse=True))


def choose(
    ordered: Sequence[BufferRule],
    *,
    sku: str,
    category: str | None,
    location: str,
    channel: str | None,
    method: str | None,
) -> BufferRule:
    """The rule that binds, out of rules that `in_order` has sorted."""
    for rule in ordered:
        if (
            rule.sku in (None, sku)
            and rule.category in (None, category)
            and rule.location in (None, location)
            and rule.method in (None, method)
            and rule.channel in (None, channel)
        ):
            return rule
    return NO_BUFFER


def sellable(free: int, buffer: BufferRule) -> int:
    """What is left of a level's free units under a buffer, never below zero."""
    left = free - buffer.safety_stock
    if buffer.max_sellable is not None and left > buffer.max_sellable:
        left = buffer.max_sellable
    return max(left, 0)
