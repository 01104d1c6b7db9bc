-- The proof that the books agree, in slices: each statement is one snapshot of its slice, so it
-- may run beside the writers and never holds a snapshot for long.

-- name: check_levels
-- Each level against its movements and its claims. The slice ends with whole items, after at
-- least so many levels; the last one is open-ended, so that figures without a level show too.
WITH slice AS (
    SELECT CASE WHEN count(*) = :levels::bigint THEN max(l.item_id) ELSE 2147483647 END AS last_item
    FROM (
        SELECT item_id FROM levels WHERE item_id > :after_item::int
        ORDER BY item_id, location_id LIMIT :levels::bigint
    ) AS l
), figures AS (
    SELECT l.item_id, l.location_id, f.bucket, f.figure
    FROM levels l
    CROSS JOIN LATERAL (VALUES
        ('on_hand'::bucket, l.on_hand), ('unavailable', l.unavailable),
        ('held', l.held), ('allocated', l.allocated)
    ) AS f (bucket, figure)
    WHERE l.item_id > :after_item::int AND l.item_id <= (SELECT last_item FROM slice)
), moved AS (
    SELECT item_id, location_id, bucket, count(*) AS movements, sum(delta)::bigint AS total,
           (max(ARRAY[seq, balance]))[2] AS last_balance
    FROM movements
    WHERE item_id > :after_item::int AND item_id <= (SELECT last_item FROM slice)
    GROUP BY item_id, location_id, bucket
), claimed AS (
    SELECT item_id, location_id, bucket, count(*) AS claims, sum(quantity)::bigint AS total
    FROM claims
    WHERE item_id > :after_item::int AND item_id <= (SELECT last_item FROM slice)
    GROUP BY item_id, location_id, bucket
), drifts AS (
    SELECT k.kind, item_id, location_id, bucket, k.expected, coalesce(figure, 0) AS found
    FROM figures
    FULL JOIN moved USING (item_id, location_id, bucket)
    FULL JOIN claimed USING (item_id, location_id, bucket)
    CROSS JOIN LATERAL (VALUES
        ('movements', coalesce(moved.total, 0)),
        ('balance', coalesce(moved.last_balance, 0)),
        ('claims', CASE WHEN bucket IN ('held', 'allocated') THEN coalesce(claimed.total, 0) END)
    ) AS k (kind, expected)
    WHERE k.expected <> coalesce(figure, 0)
    ORDER BY item_id, location_id, bucket, k.kind
    LIMIT :drifts::bigint
), counts AS (
    SELECT (SELECT last_item FROM slice) AS last_item,
           (SELECT count(*) / 4 FROM figures) AS levels,
           (SELECT coalesce(sum(movements), 0)::bigint FROM moved) AS movements,
           (SELECT coalesce(sum(claims), 0)::bigint FROM claimed) AS claims
)
SELECT counts.*, d.kind, i.sku, p.location, d.bucket, d.expected, d.found, NULL AS document_id
FROM counts
LEFT JOIN drifts d ON true
LEFT JOIN items i USING (item_id)
LEFT JOIN locations p USING (location_id)
ORDER BY d.item_id, d.location_id, d.bucket, d.kind;

-- name: check_holds
-- Each open hold against its claims: as many units of each sku at each location as its lines
-- say, until its own expiry. A slice is so many holds by expiry, with those of the last instant.
WITH slice AS (
    SELECT reservation_id, lines, expires_at FROM reservations
    WHERE status = 'held' AND expires_at > :after_expiry
    ORDER BY expires_at
    FETCH FIRST (:holds::bigint) ROWS WITH TIES
), promised AS (
    SELECT s.reservation_id, n.sku, n.location, sum(n.quantity)::bigint AS units
    FROM slice s
    CROSS JOIN LATERAL jsonb_to_recordset(s.lines) AS n (sku text, location text, quantity bigint)
    GROUP BY s.reservation_id, n.sku, n.location
), claimed AS (
    SELECT s.reservation_id, i.sku, p.location, sum(c.quantity)::bigint AS units
    FROM slice s
    JOIN claims c ON c.document_id = s.reservation_id AND c.bucket = 'held'
        AND c.expires_at = s.expires_at
    JOIN items i USING (item_id)
    JOIN locations p USING (location_id)
    GROUP BY s.reservation_id, i.sku, p.location
), drifts AS (
    SELECT reservation_id, sku, location,
           coalesce(promised.units, 0) AS expected, coalesce(claimed.units, 0) AS found
    FROM promised
    FULL JOIN claimed USING (reservation_id, sku, location)
    WHERE promised.units IS DISTINCT FROM claimed.units
), counts AS (
    SELECT max(expires_at) AS last_expiry, count(*) AS holds FROM slice
)
SELECT counts.*, CASE WHEN d.reservation_id IS NOT NULL THEN 'hold' END AS kind,
       d.sku, d.location, 'held'::bucket AS bucket, d.expected, d.found, d.reservation_id
FROM counts
LEFT JOIN drifts d ON true
ORDER BY d.reservation_id, d.sku, d.location
LIMIT :drifts::bigint;

-- name: check_claims
-- Each claim against its document: an open hold, or an order. What is resolved claims nothing.
WITH slice AS (
    SELECT document_id, bucket, claim_no, item_id, location_id, quantity FROM claims
    WHERE (document_id, bucket, claim_no)
        > (:after_document::text, :after_bucket::bucket, :after_claim::int)
    ORDER BY document_id, bucket, claim_no
    LIMIT :claims::bigint
), drifts AS (
    SELECT s.*
    FROM slice s
    LEFT JOIN reservations r ON s.bucket = 'held' AND r.reservation_id = s.document_id
        AND r.status = 'held'
    LEFT JOIN orders o ON s.bucket = 'allocated' AND o.order_id = s.document_id
    WHERE r.reservation_id IS NULL AND o.order_id IS NULL
), last AS (
    SELECT document_id AS last_document, bucket AS last_bucket, claim_no AS last_claim FROM slice
    ORDER BY document_id DESC, bucket DESC, claim_no DESC LIMIT 1
)
SELECT last.*, CASE WHEN d.document_id IS NOT NULL THEN 'orphan' END AS kind,
       i.sku, p.location, d.bucket, 0::bigint AS expected, d.quantity AS found, d.document_id
FROM last
LEFT JOIN drifts d ON true
LEFT JOIN items i USING (item_id)
LEFT JOIN locations p USING (location_id)
ORDER BY d.document_id, d.bucket, d.claim_no
LIMIT :drifts::bigint;
