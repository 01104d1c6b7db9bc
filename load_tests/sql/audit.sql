-- What a round must leave behind, whoever wrote it.

-- name: oversold$
-- Units that are promised and not there, over all levels.
SELECT coalesce(sum(greatest(held + allocated + safety_stock - on_hand, 0)), 0)::bigint FROM levels;

-- name: lost$
-- Reservations that a caller was told of (201) and that are not on record.
SELECT count(*)
FROM unnest(:reservation_ids::text[]) AS told (reservation_id)
WHERE NOT EXISTS (SELECT FROM reservations r WHERE r.reservation_id = told.reservation_id);

-- name: unanswered$
-- Each request has its own Idempotency-Key: more reservations than answers were held twice.
SELECT abs((SELECT count(*) FROM reservations)
         - (SELECT count(*) FROM idempotent_answers WHERE status = 201));

-- name: on_hand$
-- What all levels have.
SELECT coalesce(sum(on_hand), 0)::bigint FROM levels;

-- name: first_item
-- The levels of the item that all buyers want.
SELECT i.sku, p.location, l.held
FROM levels l JOIN items i USING (item_id) JOIN locations p USING (location_id)
WHERE i.sku = 'SKU-000001'
ORDER BY p.location;
