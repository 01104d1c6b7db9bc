-- What the migrations give; made from them, and held against them by a test.

CREATE TYPE public.bucket AS ENUM (
    'on_hand',
    'unavailable',
    'held',
    'allocated'
);

CREATE TYPE public.fact_status AS ENUM (
    'applied',
    'superseded'
);

CREATE TYPE public.import_status AS ENUM (
    'receiving',
    'queued',
    'running',
    'quarantined',
    'completed',
    'failed'
);

CREATE TYPE public.location_kind AS ENUM (
    'store',
    'warehouse',
    'ecommerce',
    'supplier'
);

CREATE TYPE public.location_status AS ENUM (
    'active',
    'paused',
    'closed'
);

CREATE TYPE public.movement_kind AS ENUM (
    'count',
    'receipt',
    'sale',
    'return',
    'damage',
    'repair',
    'adjustment',
    'transfer_out',
    'transfer_in',
    'reserve',
    'change',
    'release',
    'expire',
    'confirm',
    'cancel'
);

CREATE TYPE public.reservation_status AS ENUM (
    'held',
    'confirmed',
    'released',
    'expired'
);

CREATE FUNCTION public.announce_reference() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('truestock_reference', TG_TABLE_NAME);
    RETURN NULL;
END $$;

CREATE FUNCTION public.make_movement_partitions(from_day date, months integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
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

CREATE TABLE public.api_keys (
    key_id text NOT NULL,
    key_hash bytea NOT NULL,
    name text NOT NULL,
    scopes text[] NOT NULL,
    sources text[] DEFAULT '{}'::text[] NOT NULL,
    locations text[] DEFAULT '{}'::text[] NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.buffer_rules (
    only_row boolean DEFAULT true NOT NULL,
    rules jsonb DEFAULT '[]'::jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT buffer_rules_only_row CHECK (only_row)
);

CREATE TABLE public.claims (
    document_id text NOT NULL,
    claim_no integer NOT NULL,
    item_id integer NOT NULL,
    location_id integer NOT NULL,
    bucket public.bucket NOT NULL,
    quantity bigint NOT NULL,
    expires_at timestamp with time zone,
    CONSTRAINT claims_held_expire CHECK (((bucket = 'held'::public.bucket) = (expires_at IS NOT NULL))),
    CONSTRAINT claims_promised_buckets CHECK ((bucket = ANY (ARRAY['held'::public.bucket, 'allocated'::public.bucket]))),
    CONSTRAINT claims_quantity_positive CHECK ((quantity > 0))
)
WITH (autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.confirmed_counts (
    location_id integer NOT NULL,
    as_of timestamp with time zone NOT NULL,
    import_id bigint NOT NULL,
    counted_by text NOT NULL COLLATE pg_catalog."C",
    with_unavailable boolean NOT NULL,
    first_item_id integer NOT NULL,
    last_item_id integer NOT NULL,
    item_ids integer[] NOT NULL,
    quantities bigint[] NOT NULL,
    recorded_at timestamp with time zone NOT NULL
);

CREATE TABLE public.facts (
    source_id integer NOT NULL,
    event_id text NOT NULL,
    type public.movement_kind NOT NULL,
    item_id integer NOT NULL,
    location_id integer NOT NULL,
    quantity bigint NOT NULL,
    status public.fact_status NOT NULL,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    reference text,
    reason text
);

CREATE TABLE public.fulfilments (
    fulfilment_id text NOT NULL,
    order_id text NOT NULL,
    location_id integer NOT NULL,
    method text NOT NULL,
    status text NOT NULL,
    lines jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.idempotent_answers (
    key_id text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    status smallint NOT NULL,
    body bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.import_errors (
    import_id bigint NOT NULL,
    row_no bigint NOT NULL,
    code text NOT NULL,
    detail text NOT NULL,
    line text NOT NULL
);

CREATE TABLE public.import_pieces (
    import_id bigint NOT NULL,
    piece_no integer NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE ONLY public.import_pieces ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE public.imports (
    import_id bigint NOT NULL,
    source_id integer NOT NULL,
    status public.import_status DEFAULT 'receiving'::public.import_status NOT NULL,
    scope text NOT NULL,
    as_of timestamp with time zone NOT NULL,
    format text NOT NULL,
    encoding text NOT NULL,
    location_ids integer[],
    allowed_location_ids integer[],
    acknowledged_seq bigint,
    nets_allocations boolean DEFAULT false NOT NULL,
    bytes_received bigint DEFAULT 0 NOT NULL,
    pieces integer DEFAULT 0 NOT NULL,
    rows_read bigint DEFAULT 0 NOT NULL,
    rows_applied bigint DEFAULT 0 NOT NULL,
    rows_unchanged bigint DEFAULT 0 NOT NULL,
    rows_superseded bigint DEFAULT 0 NOT NULL,
    rows_rejected bigint DEFAULT 0 NOT NULL,
    rows_zeroed bigint DEFAULT 0 NOT NULL,
    lane_items integer[] DEFAULT '{}'::integer[] NOT NULL,
    failure text,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    CONSTRAINT imports_encoding CHECK ((encoding = ANY (ARRAY['identity'::text, 'gzip'::text]))),
    CONSTRAINT imports_format CHECK ((format = ANY (ARRAY['csv'::text, 'ndjson'::text]))),
    CONSTRAINT imports_scope CHECK ((scope = ANY (ARRAY['partial'::text, 'full'::text])))
);

ALTER TABLE public.imports ALTER COLUMN import_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.imports_import_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.items (
    item_id integer NOT NULL,
    sku text NOT NULL,
    category text,
    status text DEFAULT 'active'::text NOT NULL,
    body jsonb DEFAULT '{}'::jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT items_sku_length CHECK (((length(sku) >= 1) AND (length(sku) <= 128)))
);

ALTER TABLE public.items ALTER COLUMN item_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.items_item_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.job_runs (
    job text NOT NULL,
    slot timestamp with time zone NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    outcome text
);

CREATE SEQUENCE public.ledger_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE public.levels (
    item_id integer NOT NULL,
    location_id integer NOT NULL,
    on_hand bigint DEFAULT 0 NOT NULL,
    unavailable bigint DEFAULT 0 NOT NULL,
    held bigint DEFAULT 0 NOT NULL,
    allocated bigint DEFAULT 0 NOT NULL,
    safety_stock integer DEFAULT 0 NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    counted_at timestamp with time zone,
    moved_at timestamp with time zone,
    unavailable_counted_at timestamp with time zone,
    next_expiry timestamp with time zone,
    counted_by text COLLATE pg_catalog."C",
    CONSTRAINT levels_allocated_not_negative CHECK ((allocated >= 0)),
    CONSTRAINT levels_held_not_negative CHECK ((held >= 0)),
    CONSTRAINT levels_safety_stock_not_negative CHECK ((safety_stock >= 0))
)
WITH (fillfactor='75', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.location_groups (
    location_group text NOT NULL,
    location_ids integer[] NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.locations (
    location_id integer NOT NULL,
    location text NOT NULL,
    kind public.location_kind NOT NULL,
    status public.location_status DEFAULT 'active'::public.location_status NOT NULL,
    latitude double precision,
    longitude double precision,
    body jsonb DEFAULT '{}'::jsonb NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT locations_coordinates_together CHECK (((latitude IS NULL) = (longitude IS NULL))),
    CONSTRAINT locations_latitude_range CHECK (((latitude >= ('-90'::integer)::double precision) AND (latitude <= (90)::double precision))),
    CONSTRAINT locations_location_length CHECK (((length(location) >= 1) AND (length(location) <= 128))),
    CONSTRAINT locations_longitude_range CHECK (((longitude >= ('-180'::integer)::double precision) AND (longitude <= (180)::double precision)))
);

ALTER TABLE public.locations ALTER COLUMN location_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.locations_location_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.movements (
    seq bigint NOT NULL,
    item_id integer NOT NULL,
    location_id integer NOT NULL,
    bucket public.bucket NOT NULL,
    kind public.movement_kind NOT NULL,
    delta bigint NOT NULL,
    balance bigint NOT NULL,
    source_id integer,
    reference text,
    occurred_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE public.movements_default (
    seq bigint CONSTRAINT movements_seq_not_null NOT NULL,
    item_id integer CONSTRAINT movements_item_id_not_null NOT NULL,
    location_id integer CONSTRAINT movements_location_id_not_null NOT NULL,
    bucket public.bucket CONSTRAINT movements_bucket_not_null NOT NULL,
    kind public.movement_kind CONSTRAINT movements_kind_not_null NOT NULL,
    delta bigint CONSTRAINT movements_delta_not_null NOT NULL,
    balance bigint CONSTRAINT movements_balance_not_null NOT NULL,
    source_id integer,
    reference text,
    occurred_at timestamp with time zone CONSTRAINT movements_occurred_at_not_null NOT NULL,
    recorded_at timestamp with time zone CONSTRAINT movements_recorded_at_not_null NOT NULL
);

CREATE TABLE public.orders (
    order_id text NOT NULL,
    reservation_id text,
    channel text NOT NULL,
    status text NOT NULL,
    method text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);

CREATE TABLE public.outbox (
    batch_id uuid DEFAULT gen_random_uuid() NOT NULL,
    outbox_id bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    levels bytea,
    events jsonb,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

ALTER TABLE public.outbox ALTER COLUMN outbox_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.relay_positions (
    relay text NOT NULL,
    xid xid8 NOT NULL,
    outbox_id bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.reservations (
    reservation_id text NOT NULL,
    reference text NOT NULL,
    channel text NOT NULL,
    customer_id text,
    method text,
    destination jsonb,
    status public.reservation_status NOT NULL,
    lines jsonb NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone NOT NULL,
    resolved_at timestamp with time zone,
    CONSTRAINT reservations_resolved_once CHECK (((status = 'held'::public.reservation_status) = (resolved_at IS NULL)))
)
WITH (fillfactor='85');

CREATE TABLE public.schema_migrations (
    number integer NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.sources (
    source_id integer NOT NULL,
    source text NOT NULL,
    location_ids integer[],
    expected_interval_seconds integer,
    last_heard_at timestamp with time zone,
    last_occurred_at timestamp with time zone,
    applied bigint DEFAULT 0 NOT NULL,
    duplicate bigint DEFAULT 0 NOT NULL,
    superseded bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT sources_interval_positive CHECK ((expected_interval_seconds > 0)),
    CONSTRAINT sources_source_length CHECK (((length(source) >= 1) AND (length(source) <= 64)))
)
WITH (fillfactor='80');

ALTER TABLE public.sources ALTER COLUMN source_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.sources_source_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

ALTER TABLE ONLY public.movements ATTACH PARTITION public.movements_default DEFAULT;

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.buffer_rules
    ADD CONSTRAINT buffer_rules_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (document_id, bucket, claim_no);

ALTER TABLE ONLY public.facts
    ADD CONSTRAINT facts_pkey PRIMARY KEY (source_id, event_id);

ALTER TABLE ONLY public.fulfilments
    ADD CONSTRAINT fulfilments_pkey PRIMARY KEY (fulfilment_id);

ALTER TABLE ONLY public.idempotent_answers
    ADD CONSTRAINT idempotent_answers_pkey PRIMARY KEY (key_id, idempotency_key);

ALTER TABLE ONLY public.import_errors
    ADD CONSTRAINT import_errors_pkey PRIMARY KEY (import_id, row_no);

ALTER TABLE ONLY public.import_pieces
    ADD CONSTRAINT import_pieces_pkey PRIMARY KEY (import_id, piece_no);

ALTER TABLE ONLY public.imports
    ADD CONSTRAINT imports_pkey PRIMARY KEY (import_id);

ALTER TABLE ONLY public.items
    ADD CONSTRAINT items_pkey PRIMARY KEY (item_id);

ALTER TABLE ONLY public.items
    ADD CONSTRAINT items_sku_key UNIQUE (sku);

ALTER TABLE ONLY public.job_runs
    ADD CONSTRAINT job_runs_pkey PRIMARY KEY (job, slot);

ALTER TABLE ONLY public.levels
    ADD CONSTRAINT levels_pkey PRIMARY KEY (item_id, location_id);

ALTER TABLE ONLY public.location_groups
    ADD CONSTRAINT location_groups_pkey PRIMARY KEY (location_group);

ALTER TABLE ONLY public.locations
    ADD CONSTRAINT locations_location_key UNIQUE (location);

ALTER TABLE ONLY public.locations
    ADD CONSTRAINT locations_pkey PRIMARY KEY (location_id);

ALTER TABLE ONLY public.movements
    ADD CONSTRAINT movements_pkey PRIMARY KEY (seq, recorded_at);

ALTER TABLE ONLY public.movements_default
    ADD CONSTRAINT movements_default_pkey PRIMARY KEY (seq, recorded_at);

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (order_id);

ALTER TABLE ONLY public.orders
    ADD CONSTRAINT orders_reservation_key UNIQUE (reservation_id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_batch_id_key UNIQUE (batch_id);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (xid, outbox_id);

ALTER TABLE ONLY public.relay_positions
    ADD CONSTRAINT relay_positions_pkey PRIMARY KEY (relay);

ALTER TABLE ONLY public.reservations
    ADD CONSTRAINT reservations_pkey PRIMARY KEY (reservation_id);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.sources
    ADD CONSTRAINT sources_pkey PRIMARY KEY (source_id);

ALTER TABLE ONLY public.sources
    ADD CONSTRAINT sources_source_key UNIQUE (source);

CREATE INDEX claims_level ON public.claims USING btree (item_id, location_id, expires_at);

CREATE INDEX confirmed_counts_location ON public.confirmed_counts USING btree (location_id, as_of);

CREATE INDEX facts_level ON public.facts USING btree (item_id, location_id, occurred_at);

CREATE INDEX facts_reference ON public.facts USING btree (reference) WHERE (reference IS NOT NULL);

CREATE INDEX fulfilments_order ON public.fulfilments USING btree (order_id);

CREATE INDEX idempotent_answers_created ON public.idempotent_answers USING brin (created_at);

CREATE INDEX imports_waiting ON public.imports USING btree (import_id) WHERE (status = ANY (ARRAY['queued'::public.import_status, 'running'::public.import_status]));

CREATE INDEX items_updated ON public.items USING btree (updated_at);

CREATE INDEX movements_shelf ON ONLY public.movements USING btree (item_id, location_id, occurred_at) WHERE (bucket = ANY (ARRAY['on_hand'::public.bucket, 'unavailable'::public.bucket]));

CREATE INDEX movements_default_item_id_location_id_occurred_at_idx ON public.movements_default USING btree (item_id, location_id, occurred_at) WHERE (bucket = ANY (ARRAY['on_hand'::public.bucket, 'unavailable'::public.bucket]));

CREATE INDEX movements_level ON ONLY public.movements USING btree (item_id, location_id, seq);

CREATE INDEX movements_default_item_id_location_id_seq_idx ON public.movements_default USING btree (item_id, location_id, seq);

CREATE INDEX reservations_open ON public.reservations USING btree (expires_at) WHERE (status = 'held'::public.reservation_status);

ALTER INDEX public.movements_shelf ATTACH PARTITION public.movements_default_item_id_location_id_occurred_at_idx;

ALTER INDEX public.movements_level ATTACH PARTITION public.movements_default_item_id_location_id_seq_idx;

ALTER INDEX public.movements_pkey ATTACH PARTITION public.movements_default_pkey;

CREATE TRIGGER api_keys_announced AFTER INSERT OR DELETE OR UPDATE ON public.api_keys FOR EACH STATEMENT EXECUTE FUNCTION public.announce_reference();

CREATE TRIGGER buffer_rules_announced AFTER INSERT OR DELETE OR UPDATE ON public.buffer_rules FOR EACH STATEMENT EXECUTE FUNCTION public.announce_reference();

CREATE TRIGGER items_announced AFTER INSERT OR DELETE OR UPDATE ON public.items FOR EACH STATEMENT EXECUTE FUNCTION public.announce_reference();

CREATE TRIGGER location_groups_announced AFTER INSERT OR DELETE OR UPDATE ON public.location_groups FOR EACH STATEMENT EXECUTE FUNCTION public.announce_reference();

CREATE TRIGGER locations_announced AFTER INSERT OR DELETE OR UPDATE ON public.locations FOR EACH STATEMENT EXECUTE FUNCTION public.announce_reference();
