"""Health as load balancers and people ask for it."""

from typing import Literal

import msgspec

State = Literal["ok", "failing"]


class Live(msgspec.Struct):
    """The process runs."""

    status: State
    version: str


class Ready(msgspec.Struct):
    """Whether requests can be served, and each dependency by name.

    Redis alone does not make a process unready: it answers from PostgreSQL, only slower.
    """

    status: State
    dependencies: dict[str, State]
