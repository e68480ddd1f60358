-- Playback needs to know whether one segment's stream goes on in the next.
ALTER TABLE segment ADD COLUMN stream_ticks INTEGER;
ALTER TABLE segment ADD COLUMN stream_print BLOB;
DROP INDEX segment_by_time;
CREATE INDEX segment_by_time ON segment (camera_no, start_us, no, end_us,
    source_state, flags, stream_ticks, stream_print, id); -- all of a playlist: rows of many cameras lie far apart

-- Exports are jobs that outlive the process.
CREATE TABLE export (                          -- clips and packages made on request
    no           INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    request      TEXT    NOT NULL,             -- JSON: what was asked for
    status       TEXT    NOT NULL DEFAULT 'PENDING'
                 CHECK (status IN ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    starts       INTEGER NOT NULL DEFAULT 0,   -- how often work on it began and came to no orderly end
    progress     REAL    NOT NULL DEFAULT 0,
    error        TEXT,
    due_us       INTEGER NOT NULL DEFAULT 0,   -- not before; 0 for at once
    waiting_us   INTEGER,                      -- since when it waits for what is away
    result       TEXT,                         -- JSON: what came of it
    created_us   INTEGER NOT NULL,
    completed_us INTEGER,                      -- when it came to its end, whichever
    expires_us   INTEGER,
    removal      TEXT                          -- of its bytes: asked, done; forget, forgotten: and of this row
                 CHECK (removal IN ('asked', 'done', 'forget', 'forgotten')),
    catalogued   INTEGER NOT NULL DEFAULT 0 CHECK (catalogued IN (0, 1)), -- the catalog knows this row as it is
    CHECK (status <> 'COMPLETED' OR (result IS NOT NULL AND completed_us IS NOT NULL AND expires_us IS NOT NULL))
) STRICT;
CREATE INDEX export_by_status ON export (status, no);
CREATE INDEX export_expiring ON export (expires_us) WHERE status = 'COMPLETED' AND removal IS NULL;
CREATE INDEX export_removing ON export (no) WHERE removal IN ('asked', 'forget');
CREATE INDEX export_to_catalogue ON export (no) WHERE catalogued = 0;
CREATE TRIGGER export_changed AFTER UPDATE OF status, result, expires_us, removal ON export BEGIN
    UPDATE export SET catalogued = 0 WHERE no = NEW.no;
END;
