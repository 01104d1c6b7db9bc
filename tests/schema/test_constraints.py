"""Each invariant is a named constraint, and each of them holds."""

from uuid import UUID

import asyncpg
import pytest

from truestock.db import Connection

# A sound row of each table, as SQL.
ROWS = {
    "items": {"item_id": "1", "sku": "'tee'"},
    "locations": {"location_id": "1", "location": "'oslo'", "kind": "'store'"},
    "location_groups": {"location_group": "'north'", "location_ids": "'{1}'"},
    "buffer_rules": {"only_row": "true"},
    "sources": {"source_id": "1", "source": "'till'"},
    "api_keys": {"key_id": "'k'", "key_hash": "'a'", "name": "'shop'", "scopes": "'{admin}'"},
    "levels": {"item_id": "1", "location_id": "1"},
    "movements": {
        "seq": "1",
        "item_id": "1",
        "location_id": "1",
        "bucket": "'on_hand'",
        "kind": "'sale'",
        "delta": "-1",
        "balance": "0",
        "occurred_at": "'2026-11-02Z'",
        "recorded_at": "'2026-11-02Z'",
    },
    "facts": {
        "source_id": "1",
        "event_id": "'e'",
        "type": "'sale'",
        "item_id": "1",
        "location_id": "1",
        "quantity": "1",
        "status": "'applied'",
        "occurred_at": "'2026-11-02Z'",
        "recorded_at": "'2026-11-02Z'",
    },
    "imports": {
        "import_id": "1",
        "source_id": "1",
        "scope": "'full'",
        "as_of": "'2026-11-02Z'",
        "format": "'csv'",
        "encoding": "'gzip'",
    },
    "import_pieces": {"import_id": "1", "piece_no": "1", "body": "''"},
    "import_errors": {
        "import_id": "1",
        "row_no": "1",
        "code": "'unknown_sku'",
        "detail": "'There is no sku x.'",
        "line": "'x,oslo,1'",
    },
    "reservations": {
        "reservation_id": "'r'",
        "reference": "'cart'",
        "channel": "'web'",
        "status": "'held'",
        "lines": "'[]'",
        "expires_at": "'2026-11-02Z'",
        "created_at": "'2026-11-02Z'",
    },
    "claims": {
        "document_id": "'r'",
        "claim_no": "1",
        "item_id": "1",
        "location_id": "1",
        "bucket": "'held'",
        "quantity": "1",
        "expires_at": "'2026-11-02Z'",
    },
    "orders": {
        "order_id": "'o'",
        "reservation_id": "'r'",
        "channel": "'web'",
        "status": "'open'",
        "method": "'ship'",
        "body": "'{}'",
        "created_at": "'2026-11-02Z'",
    },
    "fulfilments": {
        "fulfilment_id": "'o-1'",
        "order_id": "'o'",
        "location_id": "1",
        "method": "'ship'",
        "status": "'open'",
        "lines": "'[]'",
        "created_at": "'2026-11-02Z'",
    },
    "idempotent_answers": {
        "key_id": "'k'",
        "idempotency_key": "'i'",
        "fingerprint": "''",
        "status": "201",
        "body": "''",
        "created_at": "'2026-11-02Z'",
    },
    "outbox": {"outbox_id": "1", "xid": "'1'", "batch_id": f"'{UUID(int=1)}'"},
    "relay_positions": {"relay": "'redis'", "xid": "'1'", "outbox_id": "1"},
    "job_runs": {"job": "'expire'", "slot": "'2026-11-02Z'", "started_at": "'2026-11-02Z'"},
    "schema_migrations": {"number": "1", "name": "'ledger'", "digest": "''"},
}

# Beside a sound row, a row that differs from it in these columns breaks the constraint.
BREAKS = {
    "items_pkey": ("items", {"sku": "'mug'"}),
    "items_sku_key": ("items", {"item_id": "2"}),
    "items_sku_length": ("items", {"sku": "''"}),
    "locations_pkey": ("locations", {"location": "'rome'"}),
    "locations_location_key": ("locations", {"location_id": "2"}),
    "locations_location_length": ("locations", {"location": "''"}),
    "locations_latitude_range": ("locations", {"latitude": "91", "longitude": "0"}),
    "locations_longitude_range": ("locations", {"latitude": "0", "longitude": "-181"}),
    "locations_coordinates_together": ("locations", {"latitude": "0"}),
    "location_groups_pkey": ("location_groups", {}),
    "buffer_rules_pkey": ("buffer_rules", {}),
    "buffer_rules_only_row": ("buffer_rules", {"only_row": "false"}),
    "sources_pkey": ("sources", {"source": "'erp'"}),
    "sources_source_key": ("sources", {"source_id": "2"}),
    "sources_source_length": ("sources", {"source": "''"}),
    "sources_interval_positive": ("sources", {"expected_interval_seconds": "0"}),
    "api_keys_pkey": ("api_keys", {"key_hash": "'b'"}),
    "api_keys_key_hash_key": ("api_keys", {"key_id": "'l'"}),
    "levels_pkey": ("levels", {}),
    "levels_held_not_negative": ("levels", {"held": "-1"}),
    "levels_allocated_not_negative": ("levels", {"allocated": "-1"}),
    "levels_safety_stock_not_negative": ("levels", {"safety_stock": "-1"}),
    "movements_pkey": ("movements", {}),
    "facts_pkey": ("facts", {}),
    "imports_pkey": ("imports", {}),
    "imports_scope": ("imports", {"scope": "'some'"}),
    "imports_format": ("imports", {"format": "'xml'"}),
    "imports_encoding": ("imports", {"encoding": "'zip'"}),
    "import_pieces_pkey": ("import_pieces", {}),
    "import_errors_pkey": ("import_errors", {}),
    "reservations_pkey": ("reservations", {}),
    "reservations_resolved_once": ("reservations", {"resolved_at": "'2026-11-02Z'"}),
    "claims_pkey": ("claims", {}),
    "claims_quantity_positive": ("claims", {"quantity": "0"}),
    "claims_held_expire": ("claims", {"expires_at": "NULL"}),
    "claims_promised_buckets": ("claims", {"bucket": "'on_hand'", "expires_at": "NULL"}),
    "orders_pkey": ("orders", {"reservation_id": "'s'"}),
    "orders_reservation_key": ("orders", {"order_id": "'p'"}),
    "fulfilments_pkey": ("fulfilments", {}),
    "idempotent_answers_pkey": ("idempotent_answers", {}),
    "outbox_pkey": ("outbox", {"batch_id": f"'{UUID(int=2)}'"}),
    "outbox_batch_id_key": ("outbox", {"outbox_id": "2"}),
    "relay_positions_pkey": ("relay_positions", {}),
    "job_runs_pkey": ("job_runs", {}),
    "schema_migrations_pkey": ("schema_migrations", {}),
}

# A partition reports its own index.
REPORTED = {"movements_pkey": "movements_default_pkey"}


def insert(table: str, changes: dict[str, str]) -> str:
    row = ROWS[table] | changes
    return (
        f"INSERT INTO {table} ({', '.join(row)}) OVERRIDING SYSTEM VALUE"
        f" VALUES ({', '.join(row.values())})"
    )


@pytest.mark.parametrize("name", BREAKS)
async def test_holds(undone: Connection, name: str) -> None:
    table, changes = BREAKS[name]
    # Some tables have their only row from the start.
    await undone.execute(insert(table, {}) + " ON CONFLICT DO NOTHING")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as broken:
        await undone.execute(insert(table, changes))
    assert broken.value.constraint_name == REPORTED.get(name, name)


async def test_none_is_forgotten(undone: Connection) -> None:
    named = await undone.fetch(
        "SELECT conname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid"
        " WHERE c.connamespace = 'public'::regnamespace AND c.contype <> 'n'"
        " AND NOT t.relispartition"
    )
    assert {row["conname"] for row in named} == BREAKS.keys()
