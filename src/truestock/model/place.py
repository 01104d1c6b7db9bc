"""Places: what the service keeps in mind of items and locations, and how far apart they are."""

from math import asin, cos, radians, sin, sqrt

import msgspec

from truestock.model.buffers import NO_BUFFER, BufferRule
from truestock.model.stock import Key

# The mean radius of the earth, IUGG.
EARTH_KM = 6371.0088


class ItemRef(msgspec.Struct, frozen=True, gc=False):
    """An item in short."""

    item_id: int
    sku: str
    category: str | None
    status: str


class LocationRef(msgspec.Struct, frozen=True, gc=False):
    """A location in short; degrees. A method is enabled unless it was switched off."""

    location_id: int
    location: str
    kind: str
    status: str
    latitude: float | None
    longitude: float | None
    pickup_enabled: bool = True
    ship_enabled: bool = True

    def serves(self, method: str | None) -> bool:
        """Whether the location is open for business by this method (None: by any)."""
        if self.status != "active":
            return False
        if method == "pickup":
            return self.pickup_enabled
        return self.ship_enabled if method == "ship" else True


class Place(msgspec.Struct, frozen=True, gc=False):
    """A location that a line may be held at, with the buffer that binds there."""

    item_id: int
    location_id: int
    location: str
    buffer: BufferRule = NO_BUFFER

    @property
    def key(self) -> Key:
        """Which item where."""
        return (self.item_id, self.location_id)


class Want(msgspec.Struct, frozen=True):
    """A line to be held: its places in the order of preference (one, if the caller named it)."""

    line_id: str
    sku: str
    quantity: int
    places: tuple[Place, ...]
    location: str | None = None


def distance_km(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> float:
    """Great-circle distance by the haversine formula; degrees in, kilometres out."""
    phi, other_phi = radians(latitude), radians(other_latitude)
    half_phi = sin((other_phi - phi) / 2)
    half_lambda = sin(radians(other_longitude - longitude) / 2)
    chord = half_phi * half_phi + cos(phi) * cos(other_phi) * half_lambda * half_lambda
    return 2 * EARTH_KM * asin(sqrt(min(chord, 1.0)))
