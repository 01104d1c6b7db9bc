-- Documents as they are read, and the keys of requests that do not go through the ledger's door.

-- name: get_reservation
-- One reservation; its status by the clock is the model's affair.
SELECT reservation_id, status, reference, channel, expires_at, lines, created_at,
       customer_id, method, destination, resolved_at
FROM reservations WHERE reservation_id = :reservation_id;

-- name: list_due_reservations
-- Holds that ran out and that nobody swept up yet, the oldest first.
SELECT reservation_id FROM reservations
WHERE status = 'held' AND expires_at <= :now
ORDER BY expires_at LIMIT :limit;

-- name: get_order$
-- One order as it was placed.
SELECT body FROM orders WHERE order_id = :order_id;

-- name: claim_key
-- Claim an idempotency key before its request runs; a claim that a crash left behind is taken over.
INSERT INTO idempotent_answers (key_id, idempotency_key, fingerprint, status, body, created_at)
VALUES (:key_id, :idempotency_key, :fingerprint, 0, '', clock_timestamp())
ON CONFLICT (key_id, idempotency_key) DO UPDATE
SET fingerprint = excluded.fingerprint, created_at = excluded.created_at
WHERE idempotent_answers.status = 0
  AND idempotent_answers.created_at < excluded.created_at - interval '2 minutes'
RETURNING key_id;

-- name: keep_answer!
-- The claimed key has its answer.
UPDATE idempotent_answers SET status = :status, body = :body, created_at = clock_timestamp()
WHERE key_id = :key_id AND idempotency_key = :idempotency_key;

-- name: free_key!
-- The request came to nothing that is kept: the key may be used again.
DELETE FROM idempotent_answers
WHERE key_id = :key_id AND idempotency_key = :idempotency_key AND status = 0;

-- name: forget_old_answers$
-- Keys are kept for 48 hours; deleted in bites, so that no traffic waits for it.
WITH old AS (
    SELECT key_id, idempotency_key FROM idempotent_answers
    WHERE created_at < :before LIMIT :limit
), gone AS (
    DELETE FROM idempotent_answers a USING old
    WHERE a.key_id = old.key_id AND a.idempotency_key = old.idempotency_key
    RETURNING 1
)
SELECT count(*) FROM gone;
