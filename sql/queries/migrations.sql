-- name: create_migrations_table#
-- The migrations' own record has to be there before the first of them.
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     integer NOT NULL,
    name       text NOT NULL,
    digest     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (number)
);

-- name: list_migrations
-- What has been applied, to be held against the files.
SELECT number, digest FROM schema_migrations ORDER BY number;

-- name: record_migration!
-- Written in the migration's own transaction, so that neither is there without the other.
INSERT INTO schema_migrations (number, name, digest) VALUES (:number, :name, :digest);

-- name: try_lock$
-- A lock of this session: one migrator, one leader of the jobs.
SELECT pg_try_advisory_lock(:lock);
