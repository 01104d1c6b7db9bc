-- Reference data: read whole into each process, or item by item as asked for.

-- name: list_location_refs
-- Every location, in short; few enough to be kept in memory.
SELECT location_id, location, kind, status, latitude, longitude, body FROM locations;

-- name: list_location_groups
-- Groups with their members.
SELECT location_group, location_ids FROM location_groups;

-- name: read_buffer_rules$
-- The rule list, replaced and read as one.
SELECT rules FROM buffer_rules;

-- name: find_items
-- Items by sku; ids never change, so that processes may keep them.
SELECT item_id, sku, category, status FROM items WHERE sku = ANY (:skus::text[]);

-- name: list_changed_items
-- What changed since an instant; at the start everything, up to what a process keeps.
SELECT item_id, sku, category, status FROM items
WHERE updated_at >= :since ORDER BY updated_at DESC LIMIT :limit;

-- name: put_items
-- Insert or replace; an unchanged item is left alone, so that nobody is told of it.
WITH asked AS (
    SELECT * FROM unnest(:skus::text[], :categories::text[], :statuses::text[], :bodies::jsonb[])
        AS n (sku, category, status, body)
), written AS (
    INSERT INTO items (sku, category, status, body)
    SELECT sku, category, status, body FROM asked ORDER BY sku
    ON CONFLICT (sku) DO UPDATE
    SET category = excluded.category, status = excluded.status, body = excluded.body,
        updated_at = now()
    WHERE items.body <> excluded.body
    RETURNING sku, xmax = 0 AS created
)
SELECT asked.sku, coalesce(written.created, false) AS created
FROM asked LEFT JOIN written USING (sku);

-- name: get_item
-- One item as it was put.
SELECT sku, body, updated_at FROM items WHERE sku = :sku;

-- name: list_items
-- A page of items by sku.
SELECT sku, body, updated_at FROM items WHERE sku > :after ORDER BY sku LIMIT :limit;

-- name: put_locations
-- Insert or replace; an unchanged location is left alone.
WITH asked AS (
    SELECT * FROM unnest(:locations::text[], :kinds::location_kind[],
                         :statuses::location_status[], :latitudes::float8[],
                         :longitudes::float8[], :bodies::jsonb[])
        AS n (location, kind, status, latitude, longitude, body)
), written AS (
    INSERT INTO locations (location, kind, status, latitude, longitude, body)
    SELECT location, kind, status, latitude, longitude, body FROM asked ORDER BY location
    ON CONFLICT (location) DO UPDATE
    SET kind = excluded.kind, status = excluded.status, latitude = excluded.latitude,
        longitude = excluded.longitude, body = excluded.body, updated_at = now()
    WHERE locations.body <> excluded.body
    RETURNING location, xmax = 0 AS created
)
SELECT asked.location, coalesce(written.created, false) AS created
FROM asked LEFT JOIN written USING (location);

-- name: get_location
-- One location as it was put.
SELECT location, body, updated_at FROM locations WHERE location = :location;

-- name: list_locations
-- A page of locations by code.
SELECT location, body, updated_at FROM locations WHERE location > :after
ORDER BY location LIMIT :limit;

-- name: put_location_group!
-- A group is replaced whole.
INSERT INTO location_groups (location_group, location_ids) VALUES (:location_group, :location_ids)
ON CONFLICT (location_group) DO UPDATE
SET location_ids = excluded.location_ids, updated_at = now();

-- name: put_buffer_rules!
-- The rule list is replaced whole.
UPDATE buffer_rules SET rules = :rules, updated_at = now();

-- name: find_key
-- Who this is: only the hash of a key is kept.
SELECT key_id, name, scopes, sources, locations, expires_at
FROM api_keys WHERE key_hash = :key_hash AND revoked_at IS NULL;

-- name: create_key!
-- The answer to a repeated request names the same key: it is there already, then.
INSERT INTO api_keys (key_id, key_hash, name, scopes, sources, locations, expires_at)
VALUES (:key_id, :key_hash, :name, :scopes, :sources, :locations, :expires_at)
ON CONFLICT (key_hash) DO NOTHING;

-- name: list_keys
-- A page of the keys that are not revoked; never their hashes.
SELECT key_id, name, scopes, sources, locations, expires_at, created_at
FROM api_keys WHERE revoked_at IS NULL AND key_id > :after ORDER BY key_id LIMIT :limit;

-- name: revoke_key
-- Revoked for good; answers nothing if there was no such key.
UPDATE api_keys SET revoked_at = now()
WHERE key_id = :key_id AND revoked_at IS NULL RETURNING key_id;

-- name: find_source
-- A source by its name.
SELECT source_id, location_ids FROM sources WHERE source = :source;

-- name: create_source!
-- Sources come into being on first use.
INSERT INTO sources (source) VALUES (:source) ON CONFLICT (source) DO NOTHING;

-- name: put_source
-- What a source may write, and how often it should be heard.
INSERT INTO sources (source, location_ids, expected_interval_seconds)
VALUES (:source, :location_ids, :expected_interval_seconds)
ON CONFLICT (source) DO UPDATE
SET location_ids = excluded.location_ids,
    expected_interval_seconds = excluded.expected_interval_seconds
RETURNING source_id;

-- name: list_sources
-- How each source does; null bounds list them all.
SELECT s.source, s.expected_interval_seconds, s.last_heard_at, s.last_occurred_at,
       s.applied, s.duplicate, s.superseded, s.rejected,
       (SELECT array_agg(l.location ORDER BY l.location) FROM locations l
        WHERE l.location_id = ANY (s.location_ids)) AS locations
FROM sources s
WHERE s.source > :after AND (:only::text[] IS NULL OR s.source = ANY (:only::text[]))
ORDER BY s.source LIMIT :limit;

-- name: put_bootstrap_key!
-- The first key: what the environment says now replaces what it said before.
INSERT INTO api_keys (key_id, key_hash, name, scopes)
VALUES (:key_id, :key_hash, 'bootstrap', :scopes)
ON CONFLICT (key_id) DO UPDATE
SET key_hash = excluded.key_hash, scopes = excluded.scopes, revoked_at = NULL
WHERE api_keys.key_hash <> excluded.key_hash OR api_keys.scopes <> excluded.scopes
   OR api_keys.revoked_at IS NOT NULL;
