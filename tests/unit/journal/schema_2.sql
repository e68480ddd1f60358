-- The journal: this host's truth about its segments. One file, one connection (see store.py).
-- Times are microseconds since 1970-01-01T00:00Z. Names of files are BLOBs: a file name is bytes, not text.
-- Rules that can be said to SQLite are said to it, so that no code path can break them quietly.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE camera (
    no         INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    folder     BLOB    NOT NULL,
    longest_us INTEGER NOT NULL DEFAULT 0,  -- longest segment so far: the lower bound of overlap queries
    segments   INTEGER NOT NULL DEFAULT 0,  -- kept by triggers: counting ten million rows is no answer
    bytes      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE folder (                       -- directories that hold sources; keeps ten million rows narrow
    no   INTEGER PRIMARY KEY,
    root BLOB NOT NULL,                     -- the configured recorder root
    path BLOB NOT NULL,                     -- relative to it; empty for the root itself
    UNIQUE (root, path)
) STRICT;

CREATE TABLE segment (
    no           INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    camera_no    INTEGER NOT NULL REFERENCES camera (no),
    start_us     INTEGER NOT NULL,
    end_us       INTEGER NOT NULL CHECK (end_us > start_us),
    folder_no    INTEGER NOT NULL REFERENCES folder (no),
    name         BLOB    NOT NULL,
    device       INTEGER NOT NULL,             -- device and inode: unsigned 64-bit, kept in two's complement
    inode        INTEGER NOT NULL,
    size_bytes   INTEGER NOT NULL CHECK (size_bytes > 0),
    mtime_ns     INTEGER NOT NULL,
    source_state TEXT    NOT NULL DEFAULT 'present'
                 CHECK (source_state IN ('present', 'pruning', 'pruned', 'replaced', 'missing')),
    flags        TEXT    NOT NULL DEFAULT '',  -- space-separated, sorted
    codec        TEXT,
    sha256       BLOB    CHECK (length(sha256) = 32),
    held         INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1)),
    created_us   INTEGER NOT NULL,
    settled_us   INTEGER,                      -- when the last of its copies was verified; NULL while any is not
    deletion_due_us INTEGER,                   -- tombstone: to be deleted, not tried before; NULL: it stays
    catalogued   INTEGER NOT NULL DEFAULT 0 CHECK (catalogued IN (0, 1)), -- the catalog knows this row as it is
    stream_ticks INTEGER,                      -- where the stream's clock starts: 90 kHz modulo 2^33
    stream_print BLOB,                         -- of what a decoder must be told when it changes
    UNIQUE (folder_no, name, size_bytes, mtime_ns)
) STRICT;
CREATE INDEX segment_by_time ON segment (camera_no, start_us, no, end_us,
    source_state, flags, stream_ticks, stream_print, id); -- all of a playlist: rows of many cameras lie far apart
CREATE INDEX segment_at_source ON segment (folder_no, name, size_bytes, mtime_ns, device, inode)
    WHERE source_state IN ('present', 'pruning'); -- what a scan finds, though ten times as many were there once
CREATE INDEX segment_to_catalogue ON segment (no) WHERE catalogued = 0 AND sha256 IS NOT NULL;
CREATE INDEX segment_to_prune ON segment (settled_us) WHERE source_state = 'present' AND settled_us IS NOT NULL;
CREATE INDEX segment_pruning ON segment (no) WHERE source_state = 'pruning';
CREATE INDEX segment_deleting ON segment (deletion_due_us) WHERE deletion_due_us IS NOT NULL;
CREATE INDEX segment_by_content ON segment (sha256, camera_no, start_us) WHERE sha256 IS NOT NULL;

CREATE TABLE copy (
    segment_no  INTEGER NOT NULL REFERENCES segment (no) ON DELETE CASCADE,
    backend     TEXT    NOT NULL,              -- an opaque word here
    state       TEXT    NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'stored', 'verified', 'failed', 'deleting', 'gone', 'gap')),
    path        TEXT,
    etag        TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0,    -- failures that were this object's own
    error       TEXT,
    due_us      INTEGER NOT NULL DEFAULT 0,    -- not before; 0 for at once
    urgent      INTEGER NOT NULL DEFAULT 0 CHECK (urgent IN (0, 1)), -- held or asked for: before all others
    start_us    INTEGER NOT NULL,              -- the segment's, so that newest-first needs no join
    size_bytes  INTEGER NOT NULL,              -- the segment's, for the backlog in bytes
    stored_us   INTEGER,
    verified_us INTEGER,
    PRIMARY KEY (segment_no, backend),
    CHECK (state NOT IN ('stored', 'verified') OR path IS NOT NULL),
    CHECK (state <> 'verified' OR verified_us IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX copy_undelivered ON copy (backend, start_us, segment_no, due_us) WHERE state IN ('pending', 'stored');
CREATE INDEX copy_urgent ON copy (backend, start_us, segment_no, due_us)
    WHERE urgent = 1 AND state IN ('pending', 'stored');
CREATE INDEX copy_failed ON copy (backend, segment_no) WHERE state = 'failed';
CREATE INDEX copy_by_path ON copy (backend, path) WHERE path IS NOT NULL;

CREATE TABLE tally (                           -- copies counted by state, kept by triggers
    backend  TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    segments INTEGER NOT NULL DEFAULT 0,
    bytes    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (backend, state)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER segment_added AFTER INSERT ON segment BEGIN
    UPDATE camera SET segments = segments + 1, bytes = bytes + NEW.size_bytes,
                      longest_us = max(longest_us, NEW.end_us - NEW.start_us)
     WHERE no = NEW.camera_no;
END;
CREATE TRIGGER segment_removed AFTER DELETE ON segment BEGIN
    UPDATE camera SET segments = segments - 1, bytes = bytes - OLD.size_bytes WHERE no = OLD.camera_no;
END;
CREATE TRIGGER copy_added AFTER INSERT ON copy BEGIN
    INSERT INTO tally VALUES (NEW.backend, NEW.state, 1, NEW.size_bytes)
        ON CONFLICT DO UPDATE SET segments = segments + 1, bytes = bytes + NEW.size_bytes;
    UPDATE segment SET settled_us = NULL
     WHERE no = NEW.segment_no AND settled_us IS NOT NULL AND NEW.state NOT IN ('verified', 'gone');
END;
CREATE TRIGGER copy_moved AFTER UPDATE OF state ON copy WHEN OLD.state <> NEW.state BEGIN
    UPDATE tally SET segments = segments - 1, bytes = bytes - OLD.size_bytes
     WHERE backend = OLD.backend AND state = OLD.state;
    INSERT INTO tally VALUES (NEW.backend, NEW.state, 1, NEW.size_bytes)
        ON CONFLICT DO UPDATE SET segments = segments + 1, bytes = bytes + NEW.size_bytes;
END;
CREATE TRIGGER copy_changed AFTER UPDATE OF state, path, verified_us ON copy BEGIN
    UPDATE segment
       SET catalogued = 0,
           settled_us = (SELECT iif(min(state = 'verified'), max(verified_us), NULL) FROM copy
                          WHERE segment_no = NEW.segment_no AND state <> 'gone')
     WHERE no = NEW.segment_no;
END;
CREATE TRIGGER copy_removed AFTER DELETE ON copy BEGIN
    UPDATE tally SET segments = segments - 1, bytes = bytes - OLD.size_bytes
     WHERE backend = OLD.backend AND state = OLD.state;
END;

CREATE TABLE set_aside (                       -- files that are no segments: left where they are, listed here
    folder_no  INTEGER NOT NULL REFERENCES folder (no),
    name       BLOB    NOT NULL,
    device     INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    reason     TEXT    NOT NULL,               -- empty, not_mpegts, unreadable_name, …
    detail     TEXT    NOT NULL,
    seen_us    INTEGER NOT NULL,
    PRIMARY KEY (folder_no, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX set_aside_by_reason ON set_aside (reason);
CREATE INDEX set_aside_by_time ON set_aside (seen_us, folder_no, name);

CREATE TABLE ledger (                          -- append-only: what became of footage, and why
    no         INTEGER PRIMARY KEY,
    at_us      INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN ('lost', 'found', 'replaced', 'deleted', 'pruned')),
    segment_id BLOB    NOT NULL CHECK (length(segment_id) = 16),
    camera_id  BLOB    NOT NULL CHECK (length(camera_id) = 16),
    start_us   INTEGER NOT NULL,
    end_us     INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    detail     TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX ledger_by_camera ON ledger (camera_id, start_us) WHERE kind IN ('lost', 'found', 'deleted');
CREATE INDEX ledger_losses ON ledger (cause) WHERE kind = 'lost';

CREATE TABLE uncatalogue (                     -- segments deleted here that the catalog must forget
    segment_id BLOB PRIMARY KEY CHECK (length(segment_id) = 16)
) STRICT, WITHOUT ROWID;

CREATE TABLE token (
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16),
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32), -- SHA-256 of the token: it is random, no salt needed
    scopes     TEXT    NOT NULL,               -- space-separated, sorted
    created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (                     -- Idempotency-Key → what its first request made
    route      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    request    BLOB    NOT NULL CHECK (length(request) = 32),     -- SHA-256 of the body
    made       TEXT    NOT NULL,               -- id of the created thing
    at_us      INTEGER NOT NULL,
    PRIMARY KEY (route, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (at_us);

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
