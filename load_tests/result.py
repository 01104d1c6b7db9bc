"""What a figure is made of: rounds of samples, their medians, and whether the target is met."""

from statistics import median

import msgspec


class BenchError(Exception):
    """A figure cannot be measured here; the message says why and what to do."""


class Faults(msgspec.Struct, frozen=True):
    """What went wrong while a side was measured; all zero, or its rate is worth nothing.

    oversold: promised units that are not there. lost: answers (201) without a row.
    twice: answers or rows that are there more often than they were asked for.
    drifts: what `ledger.check` found. failed: requests without a good answer.
    """

    oversold: int = 0
    lost: int = 0
    twice: int = 0
    drifts: int = 0
    failed: int = 0

    def __add__(self, other: "Faults") -> "Faults":
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Faults(*(a + b for a, b in zip(mine, others, strict=True)))

    @property
    def any(self) -> bool:
        """Whether anything went wrong."""
        return any(msgspec.structs.astuple(self))


class Sample(msgspec.Struct):
    """One side in one round. p50_ms, p99_ms: latencies, where requests were timed one by one.

    cpu_us: processor time of the server's process for each request; tells, where the machine is
    shared with the load, what a rate hides.
    """

    rate: float
    faults: Faults = Faults()
    p50_ms: float | None = None
    p99_ms: float | None = None
    cpu_us: float | None = None


class Figure(msgspec.Struct):
    """One line of the table: ours against a base, in alternating rounds.

    target: what the ratio must reach; without a base, what our rate must stay under.
    """

    name: str
    title: str
    unit: str
    base_name: str
    target: float
    ours: list[Sample]
    base: list[Sample]
    note: str = ""

    @property
    def our_rate(self) -> float:
        """The median of our rounds."""
        return median(sample.rate for sample in self.ours)

    @property
    def base_rate(self) -> float | None:
        """The median of the base's rounds."""
        return median(sample.rate for sample in self.base) if self.base else None

    @property
    def ratio(self) -> float | None:
        """Ours over the base, medians each."""
        return self.our_rate / self.base_rate if self.base_rate else None

    @property
    def reached(self) -> float:
        """How much of the target is reached; 1 and more is met."""
        return self.target / self.our_rate if self.ratio is None else self.ratio / self.target

    @property
    def faults(self) -> Faults:
        """All that went wrong, on either side."""
        return sum((sample.faults for sample in [*self.ours, *self.base]), Faults())

    @property
    def met(self) -> bool:
        """Whether the target is reached and nothing went wrong on the way."""
        return self.reached >= 1 and not self.faults.any
