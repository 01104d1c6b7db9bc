-- The read side: figures by item, and levels and movements as they are asked for.

-- name: read_figures
-- All levels of these items as of now; holds that ran out are not counted, swept up or not.
SELECT l.item_id, l.location_id, l.on_hand, l.unavailable, l.held - due.expired AS held,
       l.allocated, l.safety_stock, l.version,
       (extract(epoch FROM due.next_live) * 1000000)::bigint AS valid_until
FROM levels l
CROSS JOIN LATERAL (
    SELECT 0::bigint AS expired, l.next_expiry AS next_live
    WHERE l.next_expiry IS NULL OR l.next_expiry > :now
    UNION ALL
    SELECT coalesce((
               SELECT sum(c.quantity) FROM claims c
               WHERE c.item_id = l.item_id AND c.location_id = l.location_id
                 AND c.expires_at <= :now
           ), 0)::bigint,
           (
               SELECT c.expires_at FROM claims c
               WHERE c.item_id = l.item_id AND c.location_id = l.location_id
                 AND c.expires_at > :now
               ORDER BY c.expires_at LIMIT 1
           )
    WHERE l.next_expiry <= :now
) AS due
WHERE l.item_id = ANY (:item_ids::int[]);

-- name: list_levels
-- Levels for people and systems that compare figures; a count that a snapshot only confirmed
-- stands beside the level.
SELECT i.sku, o.location, l.on_hand, l.unavailable, l.held - due.expired AS held, l.allocated,
       l.safety_stock, l.version,
       greatest(l.counted_at, (
           SELECT max(c.as_of) FROM confirmed_counts c
           WHERE c.location_id = l.location_id AND c.as_of > coalesce(l.counted_at, '-infinity')
             AND l.item_id BETWEEN c.first_item_id AND c.last_item_id
             AND l.item_id = ANY (c.item_ids)
       )) AS counted_at
FROM levels l
JOIN items i USING (item_id)
JOIN locations o USING (location_id)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.quantity), 0)::bigint AS expired FROM claims c
    WHERE l.next_expiry <= :now
      AND c.item_id = l.item_id AND c.location_id = l.location_id AND c.expires_at <= :now
) AS due
WHERE (:skus::text[] IS NULL OR i.sku = ANY (:skus::text[]))
  AND (:locations::text[] IS NULL OR o.location = ANY (:locations::text[]))
  AND i.sku >= :after_sku::text
  AND (i.sku, o.location) > (:after_sku::text, :after_location::text)
ORDER BY i.sku, o.location
LIMIT :limit;

-- name: read_last_seq$
-- The newest seq that anybody took, committed or not.
SELECT last_value FROM ledger_seq;

-- name: read_horizon$
-- Every transaction that began before this one has an id below it.
SELECT pg_snapshot_xmax(pg_current_snapshot())::text;

-- name: is_past_horizon$
-- Whether all transactions below an id have ended, so that their movements can be seen or never.
SELECT pg_snapshot_xmin(pg_current_snapshot()) >= :horizon::text::xid8;

-- name: list_movements
-- Movements of an item (everywhere or at some locations), or of all, in the ledger's order.
SELECT m.seq, i.sku, o.location, m.bucket, m.delta, m.balance, m.kind, s.source, m.reference,
       m.occurred_at, m.recorded_at
FROM movements m
JOIN items i USING (item_id)
JOIN locations o USING (location_id)
LEFT JOIN sources s USING (source_id)
WHERE m.seq > :after AND m.seq <= :last
  AND (:item_ids::int[] IS NULL OR m.item_id = ANY (:item_ids::int[]))
  AND (:location_ids::int[] IS NULL OR m.location_id = ANY (:location_ids::int[]))
ORDER BY m.seq
LIMIT :limit;
