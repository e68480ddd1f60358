-- works-with: 1
--
-- The tables of the storage service. A database whose tables were made by hand from the specification is
-- adopted: what is there stays, what is missing is added. A new database goes the very same way, so that
-- both end alike. Valid for PostgreSQL 13 and later (gen_random_uuid is built in since 13).

CREATE TABLE IF NOT EXISTS segments (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    camera_id        UUID NOT NULL,
    start_time       TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time         TIMESTAMP WITH TIME ZONE NOT NULL,  -- half-open: the first moment after the segment
    duration_seconds INTEGER NOT NULL,                   -- rounded; the exact length is end_time - start_time
    size_bytes       BIGINT NOT NULL,
    storage_backend  VARCHAR(50) NOT NULL,               -- MINIO, S3, FILESYSTEM, MILESTONE
    storage_path     TEXT NOT NULL,                      -- object key or path; bytes that are not UTF-8 as %XX
    checksum         VARCHAR(64),                        -- SHA-256, hex
    created_at       TIMESTAMP WITH TIME ZONE DEFAULT NOW()
);

CREATE TABLE IF NOT EXISTS exports (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    camera_ids   UUID[] NOT NULL,
    start_time   TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time     TIMESTAMP WITH TIME ZONE NOT NULL,
    format       VARCHAR(10) NOT NULL,
    reason       TEXT,
    status       VARCHAR(20) NOT NULL,                   -- PENDING, PROCESSING, COMPLETED, FAILED
    file_path    TEXT,
    file_size    BIGINT,
    download_url TEXT,
    expires_at   TIMESTAMP WITH TIME ZONE,
    created_by   VARCHAR(255),
    created_at   TIMESTAMP WITH TIME ZONE DEFAULT NOW(),
    completed_at TIMESTAMP WITH TIME ZONE
);

-- An adopted table that holds something else under the same name would fail later, row by row and without
-- a clear word. Wider types than the specification's are fine.
DO $check$
DECLARE
    wrong TEXT;
BEGIN
    SELECT string_agg(format('%s.%s is %s and must be %s', wanted.tab, wanted.col,
                             coalesce(format_type(a.atttypid, NULL), 'missing'), wanted.types[1]), ', ')
      INTO wrong
      FROM (VALUES
            ('segments', 'id',               ARRAY['uuid']),
            ('segments', 'camera_id',        ARRAY['uuid']),
            ('segments', 'start_time',       ARRAY['timestamp with time zone']),
            ('segments', 'end_time',         ARRAY['timestamp with time zone']),
            ('segments', 'duration_seconds', ARRAY['integer', 'bigint']),
            ('segments', 'size_bytes',       ARRAY['bigint']),
            ('segments', 'storage_backend',  ARRAY['character varying', 'text']),
            ('segments', 'storage_path',     ARRAY['text', 'character varying']),
            ('segments', 'checksum',         ARRAY['character varying', 'text']),
            ('segments', 'created_at',       ARRAY['timestamp with time zone']),
            ('exports',  'id',               ARRAY['uuid']),
            ('exports',  'camera_ids',       ARRAY['uuid[]']),
            ('exports',  'start_time',       ARRAY['timestamp with time zone']),
            ('exports',  'end_time',         ARRAY['timestamp with time zone']),
            ('exports',  'format',           ARRAY['character varying', 'text']),
            ('exports',  'reason',           ARRAY['text', 'character varying']),
            ('exports',  'status',           ARRAY['character varying', 'text']),
            ('exports',  'file_path',        ARRAY['text', 'character varying']),
            ('exports',  'file_size',        ARRAY['bigint']),
            ('exports',  'download_url',     ARRAY['text', 'character varying']),
            ('exports',  'expires_at',       ARRAY['timestamp with time zone']),
            ('exports',  'created_by',       ARRAY['character varying', 'text']),
            ('exports',  'created_at',       ARRAY['timestamp with time zone']),
            ('exports',  'completed_at',     ARRAY['timestamp with time zone'])
           ) AS wanted (tab, col, types)
      LEFT JOIN pg_attribute a
        ON a.attrelid = to_regclass(wanted.tab) AND a.attname = wanted.col AND NOT a.attisdropped
     WHERE a.attname IS NULL OR format_type(a.atttypid, NULL) <> ALL (wanted.types);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'a table of this name is there already and is not ours to use: %', wrong;
    END IF;
END
$check$;

-- '' marks rows that another program wrote: they are shown to the fleet, and no host ever changes them.
ALTER TABLE segments ADD COLUMN IF NOT EXISTS host_id TEXT NOT NULL DEFAULT '';
ALTER TABLE segments ADD COLUMN IF NOT EXISTS flags TEXT[] NOT NULL DEFAULT '{}';

CREATE TABLE IF NOT EXISTS segment_copies (
    segment_id  UUID NOT NULL REFERENCES segments (id) ON DELETE CASCADE,
    backend     VARCHAR(50) NOT NULL,
    path        TEXT,                                    -- known once stored; written as storage_path is
    state       VARCHAR(20) NOT NULL,                    -- pending, stored, verified, failed, deleting, gone, gap
    stored_at   TIMESTAMP WITH TIME ZONE,
    verified_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (segment_id, backend)
);

-- The specification's indexes. Two of them have one name there, which PostgreSQL does not allow within a
-- schema, hence the tables' names in ours; an equal index made by hand under any name is as good.
DO $indexes$
DECLARE
    wanted RECORD;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('idx_segments_camera_time', 'segments', 'camera_id, start_time, end_time'),
            ('idx_segments_created_at',  'segments', 'created_at'),
            ('idx_exports_status',       'exports',  'status'),
            ('idx_exports_created_at',   'exports',  'created_at')
        ) AS w (name, tab, cols)
    LOOP
        IF NOT EXISTS (
            SELECT FROM pg_index
             WHERE indrelid = to_regclass(wanted.tab) AND indisvalid
               AND pg_get_indexdef(indexrelid) LIKE '% USING btree (' || wanted.cols || ')'
        ) THEN
            EXECUTE format('CREATE INDEX %I ON %I (%s)', wanted.name, wanted.tab, wanted.cols);
        END IF;
    END LOOP;
END
$indexes$;

-- Overlap queries. "start before the end, end after the beginning" alone makes PostgreSQL read everything a
-- camera ever recorded up to the span. No segment of at most two minutes that overlaps the span can begin
-- more than two minutes before it, so those few entries of idx_segments_camera_time suffice. Longer
-- segments are found by an index of their own, up to a day long, and those beyond a day (a clock gone
-- wrong) by another. These hold only the long ones, cost nothing where there are none, and need no upkeep:
-- rows adopted, changed or deleted by anybody are always in the right one. See `_FIND` in postgres.py,
-- whose conditions must be word for word these. The time zone is named because an index may only hold what
-- no setting changes; and the lengths are added, not subtracted, because an end may be infinite.
CREATE INDEX IF NOT EXISTS idx_segments_over_2_minutes ON segments (camera_id, start_time, end_time)
    WHERE end_time AT TIME ZONE 'UTC' > start_time AT TIME ZONE 'UTC' + INTERVAL '2 minutes';
CREATE INDEX IF NOT EXISTS idx_segments_over_24_hours ON segments (camera_id, start_time, end_time)
    WHERE end_time AT TIME ZONE 'UTC' > start_time AT TIME ZONE 'UTC' + INTERVAL '24 hours';
