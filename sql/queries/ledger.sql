-- The write path, in the order in which a batch runs it: documents, levels, decisions, writes.

-- name: read_answers
-- Keys that have been answered before; one that is claimed meanwhile fails the write, and the batch runs again.
-- LATERAL keeps to one probe a key, also under a plan that was made while the table was empty.
SELECT a.*
FROM unnest(:key_ids::text[], :idempotency_keys::text[]) AS asked (key_id, idempotency_key)
CROSS JOIN LATERAL (
    SELECT i.key_id, i.idempotency_key, i.fingerprint, i.status, i.body
    FROM idempotent_answers i
    WHERE i.key_id = asked.key_id AND i.idempotency_key = asked.idempotency_key
    LIMIT 1
) AS a;

-- name: lock_reservations
-- Documents come before levels, by id: the one lock order.
SELECT reservation_id, status, reference, channel, expires_at, lines, created_at,
       customer_id, method, destination, resolved_at
FROM reservations
WHERE reservation_id = ANY (:reservation_ids::text[])
ORDER BY reservation_id
FOR UPDATE;

-- name: read_claims
-- What the locked documents hold; read after the lock, so that nobody changes it any more.
SELECT document_id, claim_no, item_id, location_id, bucket, quantity, expires_at
FROM claims
WHERE document_id = ANY (:document_ids::text[]) AND bucket = 'held'
ORDER BY document_id, claim_no;

-- name: read_taken_orders
-- Order ids that are taken; two processes that take one at once meet at orders_pkey.
SELECT order_id FROM orders WHERE order_id = ANY (:order_ids::text[]);

-- name: lock_levels
-- Levels after the documents, in the order of the keys, which the caller sorts: the one lock
-- order. The clock is read behind each lock, so the batch's instant comes after everything that
-- the levels have seen.
SELECT l.*, clock_timestamp() AS read_at
FROM unnest(:item_ids::int[], :location_ids::int[]) AS asked (item_id, location_id)
CROSS JOIN LATERAL (
    SELECT v.item_id, v.location_id, v.on_hand, v.unavailable, v.held, v.allocated,
           v.safety_stock, v.version, v.counted_at, v.moved_at, v.unavailable_counted_at,
           v.next_expiry, v.counted_by
    FROM levels v
    WHERE v.item_id = asked.item_id AND v.location_id = asked.location_id
    FOR NO KEY UPDATE
) AS l;

-- name: read_clock$
-- The instant of a batch that names no level.
SELECT clock_timestamp();

-- name: create_levels!
-- A fact may speak of a level that nobody had yet; an empty one is not a change of stock.
INSERT INTO levels (item_id, location_id)
SELECT item_id, location_id
FROM unnest(:item_ids::int[], :location_ids::int[]) AS asked (item_id, location_id)
ORDER BY item_id, location_id
ON CONFLICT DO NOTHING;

-- name: read_expired_holds
-- Holds on these levels whose time ran out and that nobody swept up yet: their units are free.
SELECT asked.item_id, asked.location_id,
       coalesce((
           SELECT sum(c.quantity) FROM claims c
           WHERE c.item_id = asked.item_id AND c.location_id = asked.location_id
             AND c.expires_at <= :now
       ), 0)::bigint AS expired,
       (
           SELECT c.expires_at FROM claims c
           WHERE c.item_id = asked.item_id AND c.location_id = asked.location_id
             AND c.expires_at > :now
           ORDER BY c.expires_at LIMIT 1
       ) AS next_live
FROM unnest(:item_ids::int[], :location_ids::int[]) AS asked (item_id, location_id);

-- name: read_known_facts
-- Which of these events are on record.
SELECT f.source_id, f.event_id
FROM unnest(:source_ids::int[], :event_ids::text[]) AS asked (source_id, event_id)
JOIN facts f USING (source_id, event_id);

-- name: read_shelf
-- What happened to the shelf after the oldest count that has just come in, counts aside.
SELECT m.item_id, m.location_id, m.bucket, m.delta, m.occurred_at
FROM unnest(:item_ids::int[], :location_ids::int[], :since::timestamptz[])
     AS asked (item_id, location_id, since)
JOIN movements m ON m.item_id = asked.item_id AND m.location_id = asked.location_id
    AND m.occurred_at > asked.since
    AND m.bucket IN ('on_hand', 'unavailable') AND m.kind <> 'count';

-- name: read_confirmed_counts
-- Counts that a snapshot confirmed without touching the level, as new as the oldest fact or newer.
SELECT asked.item_id, asked.location_id, c.as_of, c.counted_by, c.with_unavailable
FROM unnest(:item_ids::int[], :location_ids::int[], :since::timestamptz[])
     AS asked (item_id, location_id, since)
JOIN confirmed_counts c ON c.location_id = asked.location_id AND c.as_of >= asked.since
    AND asked.item_id BETWEEN c.first_item_id AND c.last_item_id
    AND asked.item_id = ANY (c.item_ids)
ORDER BY c.as_of, c.counted_by;

-- name: take_seqs
-- Taken while the levels are locked: within a level, seq is the order of change.
SELECT nextval('ledger_seq') AS seq FROM generate_series(1, :count::int);

-- name: change_documents!
-- Documents that were there get their new state, and let go of the claims that they give up.
WITH given_up AS (
    DELETE FROM claims
    WHERE document_id = ANY (:documents_without_claims::text[]) AND bucket = 'held'
)
UPDATE reservations r
SET status = n.status::reservation_status, lines = n.lines, expires_at = n.expires_at,
    resolved_at = n.resolved_at
FROM unnest(:reservation_ids::text[], :statuses::text[], :lines::jsonb[],
            :expires_ats::timestamptz[], :resolved_ats::timestamptz[])
     AS n (reservation_id, status, lines, expires_at, resolved_at)
WHERE r.reservation_id = n.reservation_id;

-- name: write_facts!
-- The record of what was reported, whether it had an effect or not; and how the source does.
WITH heard AS (
    UPDATE sources s
    SET last_heard_at = greatest(s.last_heard_at, :now),
        last_occurred_at = greatest(s.last_occurred_at, n.last_occurred_at),
        applied = s.applied + n.applied, duplicate = s.duplicate + n.duplicate,
        superseded = s.superseded + n.superseded, rejected = s.rejected + n.rejected
    FROM unnest(:heard_source_ids::int[], :last_occurred_ats::timestamptz[], :applied::bigint[],
                :duplicate::bigint[], :superseded::bigint[], :rejected::bigint[])
         AS n (source_id, last_occurred_at, applied, duplicate, superseded, rejected)
    WHERE s.source_id = n.source_id
)
INSERT INTO facts (source_id, event_id, type, item_id, location_id, quantity, status, occurred_at,
                   reference, reason, recorded_at)
SELECT n.*, :now
FROM unnest(:source_ids::int[], :event_ids::text[], :types::movement_kind[], :item_ids::int[],
            :location_ids::int[], :quantities::bigint[], :statuses::fact_status[],
            :occurred_ats::timestamptz[], :fact_references::text[], :reasons::text[]) AS n;

-- name: write_orders!
-- An order and its fulfilments come into being together.
WITH written AS (
    INSERT INTO orders (order_id, reservation_id, channel, status, method, body, created_at)
    SELECT n.*, :now
    FROM unnest(:order_ids::text[], :reservation_ids::text[], :channels::text[],
                :statuses::text[], :methods::text[], :bodies::jsonb[]) AS n
)
INSERT INTO fulfilments (fulfilment_id, order_id, location_id, method, status, lines, created_at)
SELECT n.fulfilment_id, n.order_id, l.location_id, n.method, n.status, n.lines, :now
FROM unnest(:fulfilment_ids::text[], :fulfilment_order_ids::text[], :locations::text[],
            :fulfilment_methods::text[], :fulfilment_statuses::text[], :fulfilment_lines::jsonb[])
     AS n (fulfilment_id, order_id, location, method, status, lines)
JOIN locations l USING (location);

-- name: write_batch$
-- The point of no return: movements, levels, new documents and claims, answers and the outbox
-- in one statement, hence in one round trip. Numbers, enums and instants come as array literals. Answers the transaction's id, so that a connection
-- lost during the commit leaves no doubt about what became of it.
WITH moved AS (
    INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance, occurred_at,
                           source_id, reference, recorded_at)
    SELECT n.*, :now
    FROM unnest(:seqs::text::bigint[], :m_item_ids::text::int[], :m_location_ids::text::int[], :buckets::text::bucket[],
                :kinds::text::movement_kind[], :deltas::text::bigint[], :balances::text::bigint[],
                :occurred_ats::text::timestamptz[], :source_ids::text::int[], :refs::text[]) AS n
), changed AS (
    UPDATE levels l
    SET on_hand = n.on_hand, unavailable = n.unavailable, held = n.held, allocated = n.allocated,
        safety_stock = n.safety_stock, version = n.version, counted_at = n.counted_at,
        moved_at = n.moved_at, unavailable_counted_at = n.unavailable_counted_at,
        next_expiry = n.next_expiry, counted_by = n.counted_by
    FROM unnest(:item_ids::text::int[], :location_ids::text::int[], :on_hands::text::bigint[],
                :unavailables::text::bigint[], :helds::text::bigint[], :allocateds::text::bigint[],
                :safety_stocks::text::int[], :versions::text::bigint[], :counted_ats::text::timestamptz[],
                :moved_ats::text::timestamptz[], :unavailable_counted_ats::text::timestamptz[],
                :next_expiries::text::timestamptz[], :counted_bys::text[])
         AS n (item_id, location_id, on_hand, unavailable, held, allocated, safety_stock, version,
               counted_at, moved_at, unavailable_counted_at, next_expiry, counted_by)
    WHERE l.item_id = n.item_id AND l.location_id = n.location_id
), reserved AS (
    INSERT INTO reservations (reservation_id, reference, channel, customer_id, method,
                              destination, status, lines, expires_at, created_at)
    SELECT n.reservation_id, n.reference, n.channel, n.customer_id, n.method, n.destination,
           'held', n.lines, n.expires_at, :now
    FROM unnest(:r_ids::text[], :r_references::text[], :r_channels::text[],
                :r_customer_ids::text[], :r_methods::text[], :r_destinations::jsonb[],
                :r_lines::jsonb[], :r_expires_ats::text::timestamptz[])
         AS n (reservation_id, reference, channel, customer_id, method, destination, lines,
               expires_at)
), claimed AS (
    INSERT INTO claims (document_id, claim_no, item_id, location_id, bucket, quantity, expires_at)
    SELECT n.*
    FROM unnest(:c_document_ids::text[], :c_nos::text::int[], :c_item_ids::text::int[], :c_location_ids::text::int[],
                :c_buckets::text::bucket[], :c_quantities::text::bigint[], :c_expires_ats::text::timestamptz[]) AS n
), answered AS (
    INSERT INTO idempotent_answers (key_id, idempotency_key, fingerprint, status, body, created_at)
    SELECT n.*, :now
    FROM unnest(:a_key_ids::text[], :a_keys::text[], :a_fingerprints::bytea[],
                :a_statuses::text::smallint[], :a_bodies::bytea[]) AS n
), sent AS (
    INSERT INTO outbox (batch_id, levels, events, created_at)
    SELECT :batch_id::uuid, :packed_levels::bytea, :events::jsonb, :now
)
SELECT pg_current_xact_id()::text;

-- name: read_transaction_status$
-- Whether a transaction whose commit was not heard of still runs. After a crash the server may not
-- know it any more, or know another one by its id: what counts is find_batch, once it has ended.
SELECT pg_xact_status(:xid::text::xid8);

-- name: find_batch$
-- Whether a batch was committed: its outbox row is there, or nothing of it is.
SELECT EXISTS (SELECT FROM outbox WHERE batch_id = :batch_id);
