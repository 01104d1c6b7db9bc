-- What goes out: rows are passed on once no older transaction can still add one before them.

-- name: read_outbox
-- The next rows after a relay's position. A row is only safe below the oldest running transaction:
-- ids are handed out before commits, so a later commit may bring an earlier id.
SELECT o.xid::text AS xid, o.outbox_id, o.levels, o.events
FROM outbox o
WHERE (o.xid, o.outbox_id) > (:xid::text::xid8, :outbox_id::bigint)
  AND o.xid < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY o.xid, o.outbox_id
LIMIT :limit;

-- name: read_relay
-- Where a relay is.
SELECT xid::text AS xid, outbox_id FROM relay_positions WHERE relay = :relay;

-- name: start_relay
-- A relay's position; a new one starts at what is safe now, for caches start empty.
INSERT INTO relay_positions (relay, xid, outbox_id)
VALUES (:relay, pg_snapshot_xmin(pg_current_snapshot()), 0)
ON CONFLICT (relay) DO UPDATE SET relay = excluded.relay
RETURNING xid::text AS xid, outbox_id;

-- name: keep_position!
-- All up to here has been passed on.
UPDATE relay_positions SET xid = :xid::text::xid8, outbox_id = :outbox_id WHERE relay = :relay;

-- name: trim_outbox$
-- Rows that every relay has passed on and that nobody resumes from any more.
WITH old AS (
    SELECT o.xid, o.outbox_id FROM outbox o
    WHERE o.created_at < :before
      AND (o.xid, o.outbox_id) <= ALL (SELECT r.xid, r.outbox_id FROM relay_positions r)
    ORDER BY o.xid, o.outbox_id
    LIMIT :limit
), gone AS (
    DELETE FROM outbox o USING old
    WHERE o.xid = old.xid AND o.outbox_id = old.outbox_id
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: make_partitions$
-- Movements' partitions for this month and the next ones.
SELECT make_movement_partitions(now()::date, :months);

-- name: claim_slot
-- A job's run at its time is one process's; who comes second gets nothing.
INSERT INTO job_runs (job, slot, started_at) VALUES (:job, :slot, now())
ON CONFLICT (job, slot) DO NOTHING RETURNING job;

-- name: finish_slot!
-- How the run ended.
UPDATE job_runs SET finished_at = now(), outcome = :outcome WHERE job = :job AND slot = :slot;
