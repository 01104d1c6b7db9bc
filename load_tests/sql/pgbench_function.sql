-- A reservation of two lines as one transaction, all of it inside PostgreSQL: the least that a
-- program without group commit can do. It writes the rows that the ledger writes.
CREATE FUNCTION bench_reserve(
    first_item integer, first_location integer, second_item integer, second_location integer
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    document text := 'rsv_' || replace(uuidv7()::text, '-', '');
    key text := uuidv7()::text;
    expiry timestamptz;
    instant timestamptz;
    wanted record;
    a levels;
    b levels;
    lines jsonb;
BEGIN
    PERFORM FROM idempotent_answers WHERE key_id = 'bench' AND idempotency_key = key;
    IF FOUND THEN RETURN NULL; END IF;
    FOR wanted IN
        SELECT l AS level FROM levels l
        WHERE (l.item_id = first_item AND l.location_id = first_location)
           OR (l.item_id = second_item AND l.location_id = second_location)
        ORDER BY l.item_id, l.location_id
        FOR NO KEY UPDATE
    LOOP
        IF a.item_id IS NULL THEN a := wanted.level; ELSE b := wanted.level; END IF;
    END LOOP;
    IF least(a.on_hand - a.held - a.allocated - a.safety_stock,
             b.on_hand - b.held - b.allocated - b.safety_stock) < 1 THEN
        RAISE 'insufficient stock';
    END IF;
    instant := clock_timestamp();
    expiry := instant + interval '1 hour';
    a.version := nextval('ledger_seq');
    b.version := nextval('ledger_seq');
    lines := jsonb_build_array(
        jsonb_build_object('line_id', '1', 'sku', 'SKU-' || to_char(a.item_id, 'FM000000'),
                           'quantity', 1, 'location', 'LOC-' || to_char(a.location_id, 'FM000')),
        jsonb_build_object('line_id', '2', 'sku', 'SKU-' || to_char(b.item_id, 'FM000000'),
                           'quantity', 1, 'location', 'LOC-' || to_char(b.location_id, 'FM000')));
    INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance, reference,
                           occurred_at, recorded_at)
    VALUES (a.version, a.item_id, a.location_id, 'held', 'reserve', 1, a.held + 1, document,
            instant, instant),
           (b.version, b.item_id, b.location_id, 'held', 'reserve', 1, b.held + 1, document,
            instant, instant);
    UPDATE levels SET held = a.held + 1, version = a.version, next_expiry = least(next_expiry, expiry)
    WHERE item_id = a.item_id AND location_id = a.location_id;
    UPDATE levels SET held = b.held + 1, version = b.version, next_expiry = least(next_expiry, expiry)
    WHERE item_id = b.item_id AND location_id = b.location_id;
    INSERT INTO reservations (reservation_id, reference, channel, status, lines, expires_at,
                              created_at)
    VALUES (document, 'cart', 'web', 'held', lines, expiry, instant);
    INSERT INTO claims (document_id, claim_no, item_id, location_id, bucket, quantity, expires_at)
    VALUES (document, 0, a.item_id, a.location_id, 'held', 1, expiry),
           (document, 1, b.item_id, b.location_id, 'held', 1, expiry);
    INSERT INTO idempotent_answers (key_id, idempotency_key, fingerprint, status, body, created_at)
    VALUES ('bench', key, decode(md5(key), 'hex'), 201,
            convert_to(jsonb_build_object('reservation_id', document, 'status', 'held',
                                          'reference', 'cart', 'channel', 'web',
                                          'expires_at', expiry, 'lines', lines)::text, 'utf8'),
            instant);
    INSERT INTO outbox (levels, created_at)
    VALUES (convert_to(jsonb_build_array(
        jsonb_build_array(a.item_id, a.location_id, a.on_hand, a.held + 1, a.version),
        jsonb_build_array(b.item_id, b.location_id, b.on_hand, b.held + 1, b.version))::text,
        'utf8'), instant);
    RETURN document;
END $$;
