-- The retailers that the benchmarks run on, made set by set. Everything is as the ledger itself
-- would have left it, so that its proof (ledger.check) holds before, between and after the rounds.

-- Items and locations without stock: what a first snapshot meets. SKU-000001 … and LOC-001 …
CREATE FUNCTION pg_temp.seed_reference(items integer, locations integer) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO items (sku) SELECT 'SKU-' || to_char(n, 'FM000000') FROM generate_series(1, items) n;
    INSERT INTO locations (location, kind)
    SELECT 'LOC-' || to_char(n, 'FM000'), 'store' FROM generate_series(1, locations) n;
$$;

-- Each item is stocked at `each` locations: a block of them, by turns over the blocks. A level's
-- units came in equal receipts, one pass over all levels after the other, as time would have it.
CREATE FUNCTION pg_temp.seed_stock(
    items integer, locations integer, each integer, receipts integer, units bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM make_movement_partitions(current_date, 2);
    FOR receipt IN 1 .. receipts LOOP
        INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance, occurred_at,
                               recorded_at)
        SELECT (receipt - 1)::bigint * items * each + (n - 1) * each + k, n,
               n % (locations / each) * each + k, 'on_hand', 'receipt', units / receipts,
               units / receipts * receipt, now(), now()
        FROM generate_series(1, items) n, generate_series(1, each) k;
    END LOOP;
    INSERT INTO levels (item_id, location_id, on_hand, version, moved_at)
    SELECT n, n % (locations / each) * each + k, units / receipts * receipts,
           (receipts - 1)::bigint * items * each + (n - 1) * each + k, now()
    FROM generate_series(1, items) n, generate_series(1, each) k;
    PERFORM setval('ledger_seq', items::bigint * each * receipts);
END $$;
