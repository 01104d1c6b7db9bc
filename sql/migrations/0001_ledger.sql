-- The house's first floor: reference data, the ledger, documents, and what goes out of them.
-- Stock is keyed by small integers (item_id, location_id): a level's key is 8 bytes in every index.

CREATE TYPE location_kind AS ENUM ('store', 'warehouse', 'ecommerce', 'supplier');
CREATE TYPE location_status AS ENUM ('active', 'paused', 'closed');
CREATE TYPE bucket AS ENUM ('on_hand', 'unavailable', 'held', 'allocated');
CREATE TYPE movement_kind AS ENUM (
    'count', 'receipt', 'sale', 'return', 'damage', 'repair', 'adjustment', 'transfer_out', 'transfer_in',
    'reserve', 'change', 'release', 'expire', 'confirm', 'cancel'
);
CREATE TYPE fact_status AS ENUM ('applied', 'superseded');
CREATE TYPE reservation_status AS ENUM ('held', 'confirmed', 'released', 'expired');
CREATE TYPE import_status AS ENUM ('receiving', 'queued', 'running', 'quarantined', 'completed', 'failed');

-- Reference data ------------------------------------------------------------

CREATE TABLE items (
    item_id      integer GENERATED ALWAYS AS IDENTITY,
    sku          text NOT NULL,
    category     text,
    status       text NOT NULL DEFAULT 'active',
    body         jsonb NOT NULL DEFAULT '{}',
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT items_pkey PRIMARY KEY (item_id),
    CONSTRAINT items_sku_key UNIQUE (sku),
    CONSTRAINT items_sku_length CHECK (length(sku) BETWEEN 1 AND 128)
);

CREATE TABLE locations (
    location_id  integer GENERATED ALWAYS AS IDENTITY,
    location     text NOT NULL,
    kind         location_kind NOT NULL,
    status       location_status NOT NULL DEFAULT 'active',
    latitude     double precision,
    longitude    double precision,
    body         jsonb NOT NULL DEFAULT '{}',
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT locations_pkey PRIMARY KEY (location_id),
    CONSTRAINT locations_location_key UNIQUE (location),
    CONSTRAINT locations_location_length CHECK (length(location) BETWEEN 1 AND 128),
    CONSTRAINT locations_latitude_range CHECK (latitude BETWEEN -90 AND 90),
    CONSTRAINT locations_longitude_range CHECK (longitude BETWEEN -180 AND 180),
    CONSTRAINT locations_coordinates_together CHECK ((latitude IS NULL) = (longitude IS NULL))
);

CREATE TABLE location_groups (
    location_group text NOT NULL,
    location_ids   integer[] NOT NULL,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT location_groups_pkey PRIMARY KEY (location_group)
);

-- One row holds the whole rule list: it is replaced as one, and read as one.
CREATE TABLE buffer_rules (
    only_row   boolean NOT NULL DEFAULT true,
    rules      jsonb NOT NULL DEFAULT '[]',
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT buffer_rules_pkey PRIMARY KEY (only_row),
    CONSTRAINT buffer_rules_only_row CHECK (only_row)
);
INSERT INTO buffer_rules DEFAULT VALUES;

CREATE TABLE sources (
    source_id                 integer GENERATED ALWAYS AS IDENTITY,
    source                    text NOT NULL,
    location_ids              integer[],
    expected_interval_seconds integer,
    last_heard_at             timestamptz,
    last_occurred_at          timestamptz,
    applied                   bigint NOT NULL DEFAULT 0,
    duplicate                 bigint NOT NULL DEFAULT 0,
    superseded                bigint NOT NULL DEFAULT 0,
    rejected                  bigint NOT NULL DEFAULT 0,
    created_at                timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sources_pkey PRIMARY KEY (source_id),
    CONSTRAINT sources_source_key UNIQUE (source),
    CONSTRAINT sources_source_length CHECK (length(source) BETWEEN 1 AND 64),
    CONSTRAINT sources_interval_positive CHECK (expected_interval_seconds > 0)
) WITH (fillfactor = 80);

CREATE TABLE api_keys (
    key_id     text NOT NULL,
    key_hash   bytea NOT NULL,
    name       text NOT NULL,
    scopes     text[] NOT NULL,
    sources    text[] NOT NULL DEFAULT '{}',
    locations  text[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT api_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash)
);

-- Processes ask for the items that changed since they last looked.
CREATE INDEX items_updated ON items (updated_at);

-- Every process keeps reference data in memory and listens for what changes. Statement-level, and
-- never on a hot table: NOTIFY takes a lock at commit.
CREATE FUNCTION announce_reference() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('truestock_reference', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER items_announced AFTER INSERT OR UPDATE OR DELETE ON items
    FOR EACH STATEMENT EXECUTE FUNCTION announce_reference();
CREATE TRIGGER locations_announced AFTER INSERT OR UPDATE OR DELETE ON locations
    FOR EACH STATEMENT EXECUTE FUNCTION announce_reference();
CREATE TRIGGER location_groups_announced AFTER INSERT OR UPDATE OR DELETE ON location_groups
    FOR EACH STATEMENT EXECUTE FUNCTION announce_reference();
CREATE TRIGGER buffer_rules_announced AFTER INSERT OR UPDATE OR DELETE ON buffer_rules
    FOR EACH STATEMENT EXECUTE FUNCTION announce_reference();
CREATE TRIGGER api_keys_announced AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_reference();

-- The ledger ----------------------------------------------------------------

-- No index on a changing column and room on each page: updates stay HOT.
-- counted_at / counted_by: the newest count's order (instant, then source and event).
-- moved_at: the latest occurred_at of any movement of on_hand after which a count may have to look.
-- next_expiry: no hold on this level runs out before it (a lower bound, not a promise that one does).
-- version: the ledger seq of its last change.
CREATE TABLE levels (
    item_id      integer NOT NULL,
    location_id  integer NOT NULL,
    on_hand      bigint NOT NULL DEFAULT 0,
    unavailable  bigint NOT NULL DEFAULT 0,
    held         bigint NOT NULL DEFAULT 0,
    allocated    bigint NOT NULL DEFAULT 0,
    safety_stock integer NOT NULL DEFAULT 0,
    version      bigint NOT NULL DEFAULT 0,
    counted_at   timestamptz,
    moved_at     timestamptz,
    unavailable_counted_at timestamptz,
    next_expiry  timestamptz,
    counted_by   text COLLATE "C",
    CONSTRAINT levels_pkey PRIMARY KEY (item_id, location_id),
    CONSTRAINT levels_held_not_negative CHECK (held >= 0),
    CONSTRAINT levels_allocated_not_negative CHECK (allocated >= 0),
    CONSTRAINT levels_safety_stock_not_negative CHECK (safety_stock >= 0)
) WITH (fillfactor = 75, autovacuum_vacuum_scale_factor = 0.05);

CREATE SEQUENCE ledger_seq AS bigint CACHE 1;

-- seq is taken while the level is locked, so within a level it is the order of change.
CREATE TABLE movements (
    seq         bigint NOT NULL,
    item_id     integer NOT NULL,
    location_id integer NOT NULL,
    bucket      bucket NOT NULL,
    kind        movement_kind NOT NULL,
    delta       bigint NOT NULL,
    balance     bigint NOT NULL,
    source_id   integer,
    reference   text,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT movements_pkey PRIMARY KEY (seq, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX movements_level ON movements (item_id, location_id, seq);
-- What happened to the shelf after an instant: asked by every count that comes late.
CREATE INDEX movements_shelf ON movements (item_id, location_id, occurred_at)
    WHERE bucket IN ('on_hand', 'unavailable');
CREATE TABLE movements_default PARTITION OF movements DEFAULT;

-- Makes the monthly partitions from the given month on, `months` of them; those that exist stay.
CREATE FUNCTION make_movement_partitions(from_day date, months integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    first_day date;
    partition text;
    made integer := 0;
BEGIN
    FOR month_no IN 0 .. months - 1 LOOP
        first_day := date_trunc('month', from_day)::date + make_interval(months => month_no);
        partition := 'movements_' || to_char(first_day, 'YYYY_MM');
        IF to_regclass(partition) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF movements FOR VALUES FROM (%L) TO (%L)',
                partition,
                first_day::timestamp AT TIME ZONE 'UTC',
                (first_day + interval '1 month') AT TIME ZONE 'UTC');
            made := made + 1;
        END IF;
    END LOOP;
    RETURN made;
END $$;

-- What other systems reported, one row an event; an event's effect is its movements.
CREATE TABLE facts (
    source_id   integer NOT NULL,
    event_id    text NOT NULL,
    type        movement_kind NOT NULL,
    item_id     integer NOT NULL,
    location_id integer NOT NULL,
    quantity    bigint NOT NULL,
    status      fact_status NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    reference   text,
    reason      text,
    CONSTRAINT facts_pkey PRIMARY KEY (source_id, event_id)
);
CREATE INDEX facts_level ON facts (item_id, location_id, occurred_at);
CREATE INDEX facts_reference ON facts (reference) WHERE reference IS NOT NULL;

-- A snapshot's rows that only confirmed what the ledger had: counts without a movement,
-- kept together by location instead of one updated level each. A row says which items it spans,
-- so that whoever looks for some need not unpack the others.
CREATE TABLE confirmed_counts (
    location_id integer NOT NULL,
    as_of       timestamptz NOT NULL,
    import_id   bigint NOT NULL,
    counted_by  text COLLATE "C" NOT NULL,
    with_unavailable boolean NOT NULL,
    first_item_id integer NOT NULL,
    last_item_id integer NOT NULL,
    item_ids    integer[] NOT NULL,
    quantities  bigint[] NOT NULL,
    recorded_at timestamptz NOT NULL
);
CREATE INDEX confirmed_counts_location ON confirmed_counts (location_id, as_of);

-- allowed_location_ids: what the sender's key may write, NULL for everywhere.
-- received_at: when the last piece came. rows_zeroed: levels that a full file left out.
-- lane_items: how far each lane has come; an import's items are applied in lanes, by item_id.
CREATE TABLE imports (
    import_id       bigint GENERATED ALWAYS AS IDENTITY,
    source_id       integer NOT NULL,
    status          import_status NOT NULL DEFAULT 'receiving',
    scope           text NOT NULL,
    as_of           timestamptz NOT NULL,
    format          text NOT NULL,
    encoding        text NOT NULL,
    location_ids    integer[],
    allowed_location_ids integer[],
    acknowledged_seq bigint,
    nets_allocations boolean NOT NULL DEFAULT false,
    bytes_received  bigint NOT NULL DEFAULT 0,
    pieces          integer NOT NULL DEFAULT 0,
    rows_read       bigint NOT NULL DEFAULT 0,
    rows_applied    bigint NOT NULL DEFAULT 0,
    rows_unchanged  bigint NOT NULL DEFAULT 0,
    rows_superseded bigint NOT NULL DEFAULT 0,
    rows_rejected   bigint NOT NULL DEFAULT 0,
    rows_zeroed     bigint NOT NULL DEFAULT 0,
    lane_items      integer[] NOT NULL DEFAULT '{}',
    failure         text,
    received_at     timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    CONSTRAINT imports_pkey PRIMARY KEY (import_id),
    CONSTRAINT imports_scope CHECK (scope IN ('partial', 'full')),
    CONSTRAINT imports_format CHECK (format IN ('csv', 'ndjson')),
    CONSTRAINT imports_encoding CHECK (encoding IN ('identity', 'gzip'))
);
CREATE INDEX imports_waiting ON imports (import_id) WHERE status IN ('queued', 'running');

-- The file as it was sent, in pieces, so that any process can go on with an import after a crash.
CREATE TABLE import_pieces (
    import_id bigint NOT NULL,
    piece_no  integer NOT NULL,
    body      bytea NOT NULL,
    CONSTRAINT import_pieces_pkey PRIMARY KEY (import_id, piece_no)
);
ALTER TABLE import_pieces ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE import_errors (
    import_id bigint NOT NULL,
    row_no    bigint NOT NULL,
    code      text NOT NULL,
    detail    text NOT NULL,
    line      text NOT NULL,
    CONSTRAINT import_errors_pkey PRIMARY KEY (import_id, row_no)
);

-- Documents -----------------------------------------------------------------

CREATE TABLE reservations (
    reservation_id text NOT NULL,
    reference      text NOT NULL,
    channel        text NOT NULL,
    customer_id    text,
    method         text,
    destination    jsonb,
    status         reservation_status NOT NULL,
    lines          jsonb NOT NULL,
    expires_at     timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    resolved_at    timestamptz,
    CONSTRAINT reservations_pkey PRIMARY KEY (reservation_id),
    CONSTRAINT reservations_resolved_once CHECK ((status = 'held') = (resolved_at IS NULL))
) WITH (fillfactor = 85);
-- The sweeper's list: the holds that are still open, by when they run out.
CREATE INDEX reservations_open ON reservations (expires_at) WHERE status = 'held';

-- What a document has of a level: held for a reservation until expires_at, or allocated to an
-- order (no expires_at). A reservation and an order may go by the same id.
CREATE TABLE claims (
    document_id text NOT NULL,
    claim_no    integer NOT NULL,
    item_id     integer NOT NULL,
    location_id integer NOT NULL,
    bucket      bucket NOT NULL,
    quantity    bigint NOT NULL,
    expires_at  timestamptz,
    CONSTRAINT claims_pkey PRIMARY KEY (document_id, bucket, claim_no),
    CONSTRAINT claims_quantity_positive CHECK (quantity > 0),
    CONSTRAINT claims_held_expire CHECK ((bucket = 'held') = (expires_at IS NOT NULL)),
    CONSTRAINT claims_promised_buckets CHECK (bucket IN ('held', 'allocated'))
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX claims_level ON claims (item_id, location_id, expires_at);

CREATE TABLE orders (
    order_id       text NOT NULL,
    reservation_id text,
    channel        text NOT NULL,
    status         text NOT NULL,
    method         text NOT NULL,
    body           jsonb NOT NULL,
    created_at     timestamptz NOT NULL,
    CONSTRAINT orders_pkey PRIMARY KEY (order_id),
    CONSTRAINT orders_reservation_key UNIQUE (reservation_id)
);

CREATE TABLE fulfilments (
    fulfilment_id text NOT NULL,
    order_id      text NOT NULL,
    location_id   integer NOT NULL,
    method        text NOT NULL,
    status        text NOT NULL,
    lines         jsonb NOT NULL,
    created_at    timestamptz NOT NULL,
    CONSTRAINT fulfilments_pkey PRIMARY KEY (fulfilment_id)
);
CREATE INDEX fulfilments_order ON fulfilments (order_id);

-- What goes out ------------------------------------------------------------

-- The first answer to an Idempotency-Key, written with what it answers for.
CREATE TABLE idempotent_answers (
    key_id          text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint     bytea NOT NULL,
    status          smallint NOT NULL,
    body            bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    CONSTRAINT idempotent_answers_pkey PRIMARY KEY (key_id, idempotency_key)
);
CREATE INDEX idempotent_answers_created ON idempotent_answers USING brin (created_at);

-- One row a commit: the levels that it changed (packed as Redis gets them) and its events.
-- xid orders readers: a row is safe to pass once no older transaction runs.
-- batch_id tells a writer that lost its connection whether its commit took place: after a crash a
-- transaction id may be handed out again, a batch's own id never.
CREATE TABLE outbox (
    batch_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    outbox_id  bigint GENERATED ALWAYS AS IDENTITY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    levels     bytea,
    events     jsonb,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT outbox_pkey PRIMARY KEY (xid, outbox_id),
    CONSTRAINT outbox_batch_id_key UNIQUE (batch_id)
);

CREATE TABLE relay_positions (
    relay     text NOT NULL,
    xid       xid8 NOT NULL,
    outbox_id bigint NOT NULL,
    CONSTRAINT relay_positions_pkey PRIMARY KEY (relay)
) WITH (fillfactor = 50);

CREATE TABLE job_runs (
    job         text NOT NULL,
    slot        timestamptz NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz,
    outcome     text,
    CONSTRAINT job_runs_pkey PRIMARY KEY (job, slot)
);
