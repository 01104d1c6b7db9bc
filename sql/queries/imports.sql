-- Snapshot files: received in pieces, surveyed as a whole, applied in lanes of chunks.

-- Receiving -----------------------------------------------------------------

-- name: create_import$
-- There before the first byte, so that an upload that breaks off can be seen.
INSERT INTO imports (source_id, scope, as_of, format, encoding, location_ids,
                     allowed_location_ids, acknowledged_seq, nets_allocations)
VALUES (:source_id, :scope, :as_of, :format, :encoding, :location_ids::int[],
        :allowed_location_ids::int[], :acknowledged_seq::bigint, :nets_allocations)
RETURNING import_id;

-- name: add_import_piece$
-- One transaction a piece: a slow upload must not hold back those who read behind the oldest one.
-- Answers nothing for an upload that was given up meanwhile.
WITH asked AS MATERIALIZED (
    SELECT import_id, pieces FROM imports
    WHERE import_id = :import_id AND status = 'receiving' FOR NO KEY UPDATE
), added AS (
    INSERT INTO import_pieces (import_id, piece_no, body)
    SELECT import_id, pieces, :body::bytea FROM asked
)
UPDATE imports i
SET pieces = i.pieces + 1, bytes_received = i.bytes_received + length(:body::bytea),
    received_at = now()
FROM asked
WHERE i.import_id = asked.import_id
RETURNING i.import_id;

-- name: queue_import$
-- From here on the file is ours: it is run even if this process dies.
UPDATE imports SET status = 'queued', received_at = now()
WHERE import_id = :import_id AND status = 'receiving'
RETURNING import_id;

-- name: fail_import!
-- A failed import keeps its figures and its errors, but not its file. A file that is queued is
-- whole: whoever failed to hear so does not undo it.
WITH failed AS (
    UPDATE imports SET status = 'failed', failure = :failure, finished_at = now()
    WHERE import_id = :import_id AND status IN ('receiving', 'running')
    RETURNING import_id
)
DELETE FROM import_pieces p USING failed WHERE p.import_id = failed.import_id;

-- name: list_abandoned_uploads
-- Whoever received these died with them.
SELECT import_id FROM imports
WHERE status = 'receiving' AND received_at < now() - make_interval(secs => :seconds);

-- Running -------------------------------------------------------------------

-- name: list_waiting_imports
-- Oldest first: of two files of one source, the one that came first.
SELECT import_id FROM imports WHERE status IN ('queued', 'running') ORDER BY import_id;

-- name: try_import_lock$
-- A lock of this session: one process runs an import, and a process that died runs none.
SELECT pg_try_advisory_lock(:lock::int, :import_id::int);

-- name: release_import_lock$
-- The connection goes back to its pool.
SELECT pg_advisory_unlock(:lock::int, :import_id::int);

-- name: start_import
-- What to run, and how far an earlier run has come. A finished one is not started again.
UPDATE imports i
SET status = 'running', started_at = coalesce(i.started_at, now()),
    lane_items = CASE WHEN i.lane_items = '{}' THEN array_fill(0, ARRAY[:lanes::int])
                      ELSE i.lane_items END
FROM sources s
WHERE i.import_id = :import_id AND i.status IN ('queued', 'running') AND s.source_id = i.source_id
RETURNING i.import_id, i.source_id, s.source, i.as_of, i.scope, i.format, i.encoding,
          i.location_ids, i.allowed_location_ids, i.pieces, i.lane_items;

-- name: read_import_piece$
-- One piece at a time, so that memory does not grow with the file.
SELECT body FROM import_pieces WHERE import_id = :import_id AND piece_no = :piece_no;

-- name: find_import_items
-- The items that a file names; asked once a name, the answers are kept while it is read.
SELECT sku, item_id FROM items WHERE sku = ANY (:skus::text[]);

-- name: find_locations
-- The locations that a file may name.
SELECT location, location_id FROM locations
WHERE :allowed_location_ids::int[] IS NULL OR location_id = ANY (:allowed_location_ids::int[]);

-- name: list_stocked_items
-- What a location has levels of: a full file counts as zero what it leaves out of these.
SELECT location_id, array_agg(item_id) AS item_ids
FROM levels
WHERE location_id = ANY (:location_ids::int[])
  AND (:allowed_location_ids::int[] IS NULL OR location_id = ANY (:allowed_location_ids::int[]))
GROUP BY location_id;

-- name: forget_import_errors!
-- A file that is surveyed again finds its errors again.
DELETE FROM import_errors WHERE import_id = :import_id;

-- name: write_import_errors!
-- Row by row what was wrong with it.
INSERT INTO import_errors (import_id, row_no, code, detail, line)
SELECT :import_id, n.*
FROM unnest(:row_nos::bigint[], :codes::text[], :details::text[], :lines::text[]) AS n;

-- name: record_survey!
-- The whole file has been read; nothing of it is applied before.
UPDATE imports SET rows_read = :rows_read, rows_rejected = :rows_rejected
WHERE import_id = :import_id;

-- name: set_up_chunk
-- A chunk's arrays look small to the planner and its tables may have been empty when it planned:
-- keys found through the index one by one are right at every size. The chunk fits into work_mem.
-- For this transaction alone: the connection goes back to a pool that resets nothing.
SELECT set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true),
       set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true),
       set_config('work_mem', '32MB', true);

-- name: lock_counted_levels$
-- In the one lock order; what is decided is read by the next statement, behind the locks.
SELECT count(*)
FROM (
    SELECT 1
    FROM unnest(:item_ids::int[], :location_ids::int[]) AS asked (item_id, location_id)
    JOIN levels l USING (item_id, location_id)
    ORDER BY l.item_id, l.location_id
    FOR NO KEY UPDATE OF l
) AS locked;

-- name: apply_counts
-- Compare the chunk with its locked levels and write what follows. A count that changes nothing
-- goes into confirmed_counts; every other one that is the newest is a movement, a new state of
-- its level, and a line for those who hold copies of the item. statement_timestamp() lies behind
-- the locks, and nextval too: within a level, seq is the order of change. A level that somebody
-- made since the statement began fails levels_pkey, and the chunk runs again.
WITH newer AS MATERIALIZED (
    SELECT unnest(c.item_ids) AS item_id, c.location_id, c.with_unavailable
    FROM confirmed_counts c
    WHERE c.location_id IN (SELECT unnest(:location_ids::int[])) AND c.as_of >= :as_of::timestamptz
      AND c.last_item_id >= :first_item_id::int AND c.first_item_id <= :last_item_id::int
      AND (c.as_of, c.counted_by) > (:as_of::timestamptz, :counted_by::text)
), decided AS MATERIALIZED (
    SELECT d.*,
           CASE WHEN newest AND NOT unchanged THEN nextval('ledger_seq') END AS seq,
           CASE WHEN newest_unavailable AND NOT unchanged THEN nextval('ledger_seq') END
               AS unavailable_seq
    FROM (
        SELECT c.*, u.newest_unavailable,
               known AND counted_before AND NOT moved AND newest AND counted = old_on_hand
               AND coalesce(safety_stock = old_safety_stock, true)
               AND coalesce(u.newest_unavailable AND unavailable = old_unavailable, true)
                   AS unchanged
        FROM (
            SELECT r.*,
                   coalesce(r.stated, true) AS in_file,
                   l.item_id IS NOT NULL AS known,
                   l.counted_at IS NOT NULL AS counted_before,
                   coalesce(l.moved_at > :as_of, false) AS moved,
                   coalesce(l.on_hand, 0) AS old_on_hand,
                   coalesce(l.unavailable, 0) AS old_unavailable,
                   coalesce(l.safety_stock, 0) AS old_safety_stock,
                   coalesce((l.counted_at, coalesce(l.counted_by, '')) < (:as_of, :counted_by), true)
                   AND (r.item_id, r.location_id) NOT IN (SELECT item_id, location_id FROM newer)
                       AS newest,
                   l.unavailable_counted_at
            FROM unnest(:item_ids::int[], :location_ids::int[], :counted::bigint[],
                        :safety_stocks::int[], :unavailables::bigint[], :stated::boolean[])
                 AS r (item_id, location_id, counted, safety_stock, unavailable, stated)
            LEFT JOIN levels l ON l.item_id = r.item_id AND l.location_id = r.location_id
            OFFSET 0
        ) AS c
        CROSS JOIN LATERAL (
            SELECT CASE WHEN c.unavailable IS NOT NULL THEN
                coalesce(c.unavailable_counted_at < :as_of
                         OR c.unavailable_counted_at = :as_of AND c.newest, true)
                AND (c.item_id, c.location_id) NOT IN (
                    SELECT item_id, location_id FROM newer WHERE with_unavailable)
            END AS newest_unavailable
        ) AS u
        OFFSET 0
    ) AS d
), figures AS MATERIALIZED (
    SELECT d.*, greatest(seq, unavailable_seq) AS version,
           CASE WHEN seq IS NULL THEN old_on_hand ELSE counted + CASE WHEN moved THEN (
               SELECT coalesce(sum(m.delta), 0) FROM movements m
               WHERE m.item_id = d.item_id AND m.location_id = d.location_id
                 AND m.occurred_at > :as_of
                 AND m.bucket = 'on_hand' AND m.kind <> 'count'
           ) ELSE 0 END END AS on_hand,
           CASE WHEN unavailable_seq IS NULL THEN old_unavailable
           ELSE unavailable + CASE WHEN moved THEN (
               SELECT coalesce(sum(m.delta), 0) FROM movements m
               WHERE m.item_id = d.item_id AND m.location_id = d.location_id
                 AND m.occurred_at > :as_of
                 AND m.bucket = 'unavailable' AND m.kind <> 'count'
           ) ELSE 0 END END AS new_unavailable
    FROM decided d
    WHERE seq IS NOT NULL OR unavailable_seq IS NOT NULL
), made AS (
    INSERT INTO levels (item_id, location_id, on_hand, unavailable, safety_stock, version,
                        counted_at, counted_by, unavailable_counted_at)
    SELECT item_id, location_id, on_hand, new_unavailable, coalesce(safety_stock, 0), version,
           CASE WHEN seq IS NOT NULL THEN :as_of END,
           CASE WHEN seq IS NOT NULL THEN :counted_by END,
           CASE WHEN unavailable_seq IS NOT NULL THEN :as_of END
    FROM figures WHERE NOT known
), changed AS (
    UPDATE levels l
    SET on_hand = f.on_hand, unavailable = f.new_unavailable, version = f.version,
        safety_stock = CASE WHEN f.seq IS NULL THEN l.safety_stock
                            ELSE coalesce(f.safety_stock, l.safety_stock) END,
        counted_at = CASE WHEN f.seq IS NULL THEN l.counted_at ELSE :as_of END,
        counted_by = CASE WHEN f.seq IS NULL THEN l.counted_by ELSE :counted_by END,
        unavailable_counted_at = CASE WHEN f.unavailable_seq IS NULL
                                      THEN l.unavailable_counted_at ELSE :as_of END
    FROM figures f
    WHERE f.known AND l.item_id = f.item_id AND l.location_id = f.location_id
), counted AS (
    INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance, occurred_at,
                           source_id, reference, recorded_at)
    SELECT seq, item_id, location_id, 'on_hand'::bucket, 'count'::movement_kind, on_hand - old_on_hand, on_hand, :as_of,
           :source_id::int, :import_id::bigint::text, statement_timestamp()
    FROM figures WHERE seq IS NOT NULL
    UNION ALL
    SELECT unavailable_seq, item_id, location_id, 'unavailable', 'count',
           new_unavailable - old_unavailable, new_unavailable, :as_of,
           :source_id::int, :import_id::bigint::text, statement_timestamp()
    FROM figures WHERE unavailable_seq IS NOT NULL AND new_unavailable <> old_unavailable
), confirmed AS (
    INSERT INTO confirmed_counts (location_id, as_of, import_id, counted_by, with_unavailable,
                                  first_item_id, last_item_id, item_ids, quantities, recorded_at)
    SELECT location_id, :as_of, :import_id::bigint, :counted_by, unavailable IS NOT NULL,
           min(item_id), max(item_id), array_agg(item_id), array_agg(counted), statement_timestamp()
    FROM decided WHERE unchanged
    GROUP BY location_id, unavailable IS NOT NULL
), told AS (
    INSERT INTO outbox (events)
    SELECT jsonb_build_array(jsonb_build_object(
        'type', 'levels.changed', 'data', jsonb_build_object('item_ids', jsonb_agg(item_id))))
    FROM (SELECT DISTINCT item_id FROM figures) AS f
    HAVING count(*) > 0
)
SELECT count(*) FILTER (WHERE in_file AND (seq IS NOT NULL OR unavailable_seq IS NOT NULL))
           AS applied,
       count(*) FILTER (WHERE in_file AND unchanged) AS unchanged,
       count(*) FILTER (WHERE in_file AND NOT unchanged AND seq IS NULL
                          AND unavailable_seq IS NULL) AS superseded,
       count(*) FILTER (WHERE NOT in_file) AS zeroed,
       count(*) FILTER (WHERE known) AS known,
       ARRAY(SELECT DISTINCT item_id FROM figures ORDER BY item_id) AS item_ids
FROM decided;

-- name: advance_import$
-- In the chunk's own transaction, last of all: lanes wait here for each other's commit.
-- The lane's old mark is the fence: a second runner that thinks it is the only one moves nothing.
UPDATE imports
SET rows_applied = rows_applied + :applied::bigint,
    rows_unchanged = rows_unchanged + :unchanged::bigint,
    rows_superseded = rows_superseded + :superseded::bigint,
    rows_zeroed = rows_zeroed + :zeroed::bigint,
    lane_items[:lane::int] = :through_item_id::int
WHERE import_id = :import_id AND status = 'running' AND lane_items[:lane::int] = :after_item_id::int
RETURNING import_id;

-- name: complete_import!
-- The file has done its work; the source's own account takes over the figures.
WITH done AS (
    UPDATE imports SET status = 'completed', finished_at = now()
    WHERE import_id = :import_id AND status = 'running'
    RETURNING *
), dropped AS (
    DELETE FROM import_pieces WHERE import_id = :import_id
)
UPDATE sources s
SET last_heard_at = greatest(s.last_heard_at, done.received_at),
    last_occurred_at = greatest(s.last_occurred_at, done.as_of),
    applied = s.applied + done.rows_applied + done.rows_unchanged,
    superseded = s.superseded + done.rows_superseded,
    rejected = s.rejected + done.rows_rejected
FROM done
WHERE s.source_id = done.source_id;

-- Reading -------------------------------------------------------------------

-- name: read_import
-- How an import is doing.
SELECT import_id::text, source, status::text, rows_read, rows_applied, rows_unchanged,
       rows_superseded, rows_rejected, rows_zeroed, started_at, finished_at, failure
FROM imports JOIN sources USING (source_id) WHERE import_id = :import_id;

-- name: read_import_errors
-- A page of errors, by row.
SELECT row_no, code, detail, line FROM import_errors
WHERE import_id = :import_id AND row_no > :after_row
ORDER BY row_no LIMIT :page_rows;
