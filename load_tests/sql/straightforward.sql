-- What the straightforward handler says to the database, one transaction a request.

-- name: lock_levels
-- The levels that the lines name, locked in one order.
SELECT l.item_id, l.location_id, i.sku, p.location, l.held,
       l.on_hand - l.held - l.allocated - l.safety_stock AS available
FROM levels l JOIN items i USING (item_id) JOIN locations p USING (location_id)
WHERE (i.sku, p.location) IN (SELECT * FROM unnest(:skus::text[], :locations::text[]))
ORDER BY l.item_id, l.location_id
FOR UPDATE OF l;

-- name: insert_movements
-- One movement a level, with its running balance; answers its place in the ledger.
INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance, reference,
                       occurred_at, recorded_at)
SELECT nextval('ledger_seq'), n.item_id, n.location_id, 'held', 'reserve', n.delta, n.balance,
       :reservation_id, now(), now()
FROM unnest(:item_ids::int[], :location_ids::int[], :deltas::bigint[], :balances::bigint[])
     AS n (item_id, location_id, delta, balance)
RETURNING item_id, location_id, seq;

-- name: update_levels!
-- The units are held from now on.
UPDATE levels l
SET held = n.held, version = n.seq, next_expiry = least(l.next_expiry, :expires_at)
FROM unnest(:item_ids::int[], :location_ids::int[], :helds::bigint[], :seqs::bigint[])
     AS n (item_id, location_id, held, seq)
WHERE l.item_id = n.item_id AND l.location_id = n.location_id;

-- name: insert_reservation!
-- The document.
INSERT INTO reservations (reservation_id, reference, channel, status, lines, expires_at, created_at)
VALUES (:reservation_id, :reference, :channel, 'held', :lines::jsonb, :expires_at, :now);

-- name: insert_lines!
-- What it has of each level.
INSERT INTO claims (document_id, claim_no, item_id, location_id, bucket, quantity, expires_at)
SELECT :reservation_id, n.claim_no, n.item_id, n.location_id, 'held', n.quantity, :expires_at
FROM unnest(:claim_nos::int[], :item_ids::int[], :location_ids::int[], :quantities::bigint[])
     AS n (claim_no, item_id, location_id, quantity);

-- name: insert_answer!
-- The key is spent with its answer; a second request with it fails here.
INSERT INTO idempotent_answers (key_id, idempotency_key, fingerprint, status, body, created_at)
VALUES ('bench', :idempotency_key, :fingerprint, 201, :body, :now);
