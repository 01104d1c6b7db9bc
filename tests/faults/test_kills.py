"""Kill -9 at random moments under load: no answer is lost, nothing happens twice."""

import json
from pathlib import Path

import msgspec
import pytest
from tests.faults.campaign import Report, campaign

KINDS = ["service", "postmaster", "backend", "service", "postmaster", "redis"]


def assert_nothing_lost(report: Report) -> None:
    """The promise, whatever was killed."""
    assert report.lost == []
    assert report.changed == []
    assert report.doubled == 0
    assert report.proof.drifts == []
    assert report.answered > 0


async def test_a_few_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    report = await campaign(tmp_path, ["service", "postmaster", "backend", "redis"], 4, seed=1)
    assert_nothing_lost(report)


@pytest.mark.campaign
async def test_sixty_kills_lose_and_repeat_nothing(tmp_path: Path) -> None:
    report = await campaign(tmp_path, KINDS, 60, seed=20261122)
    keep(report)
    assert_nothing_lost(report)


def keep(report: Report) -> None:
    """Write what the campaign found beside the other figures."""
    facts = msgspec.to_builtins(report)
    facts["ready_seconds"] = sorted(round(seconds, 2) for seconds in report.ready_seconds)
    Path("docs/benchmarks/faults.json").write_text(json.dumps(facts, indent=2) + "\n")
