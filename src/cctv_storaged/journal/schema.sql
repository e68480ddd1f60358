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
    bytes      INTEGER NOT NULL DEFAULT 0,
    first_us   INTEGER                      -- start of the first footage ever: no day before it can be missed
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
    deletion_cause TEXT,                       -- with the tombstone: why it is deleted
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
CREATE INDEX segment_held ON segment (no) WHERE held = 1;
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
    locked      INTEGER,                       -- legal hold: 0 wanted, 1 shown to be there, 2 to be taken off
    PRIMARY KEY (segment_no, backend),
    CHECK (state NOT IN ('stored', 'verified') OR path IS NOT NULL),
    CHECK (state <> 'verified' OR verified_us IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX copy_undelivered ON copy (backend, start_us, segment_no, due_us, state)
    WHERE state IN ('pending', 'stored'); -- all that is asked of those that are put off: they may be very many
CREATE INDEX copy_urgent ON copy (backend, start_us, segment_no, due_us, state, urgent)
    WHERE urgent = 1 AND state IN ('pending', 'stored');
CREATE INDEX copy_put_off ON copy (backend, due_us, segment_no) WHERE due_us <> 0 AND state IN ('pending', 'stored');
CREATE INDEX copy_failed ON copy (backend, segment_no) WHERE state = 'failed';
CREATE INDEX copy_damaged ON copy (backend, segment_no) WHERE state = 'failed' AND path IS NOT NULL; -- its bytes were there
CREATE INDEX copy_locked ON copy (backend, segment_no) WHERE locked = 1;
CREATE INDEX copy_to_lock ON copy (backend, segment_no) WHERE locked = 0 AND state = 'verified';
CREATE INDEX copy_to_unlock ON copy (backend, segment_no) WHERE locked = 2;
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
                      longest_us = max(longest_us, NEW.end_us - NEW.start_us),
                      first_us = min(coalesce(first_us, NEW.start_us), NEW.start_us)
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
    camera_id  BLOB    CHECK (length(camera_id) = 16), -- whose footage it would have been, where its name says
    start_us   INTEGER,                        -- and from when
    PRIMARY KEY (folder_no, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX set_aside_by_reason ON set_aside (reason);
CREATE INDEX set_aside_by_time ON set_aside (seen_us, folder_no, name);
CREATE INDEX set_aside_by_camera ON set_aside (camera_id, start_us) WHERE camera_id IS NOT NULL;

CREATE TABLE ledger (                          -- append-only: what became of footage, and why
    no         INTEGER PRIMARY KEY,
    at_us      INTEGER NOT NULL,
    kind       TEXT    NOT NULL CHECK (kind IN (
                   'registered', 'verified', 'pruned', 'deleted', 'lost', 'found', 'replaced', 'repaired',
                   'adopted', 'held', 'released', 'exported', 'downloaded', 'noted')),
    segment_id BLOB    NOT NULL CHECK (length(segment_id) = 16), -- or of the hold or export the line is about
    camera_id  BLOB    NOT NULL CHECK (length(camera_id) = 16),
    start_us   INTEGER NOT NULL,
    end_us     INTEGER NOT NULL,
    cause      TEXT    NOT NULL,
    detail     TEXT    NOT NULL DEFAULT '',
    hash       BLOB    CHECK (length(hash) = 32) -- of the line before and this one (ledger.py)
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
    created_us INTEGER NOT NULL,
    cameras    TEXT,                           -- ids in hex, space-separated, sorted: it sees no others; NULL: it sees all
    expires_us INTEGER,                        -- opens nothing from then on
    used_us    INTEGER,                        -- last use, to some minutes
    used_from  TEXT                            -- and the address it came from
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

CREATE TABLE hold (                            -- spans that nothing may delete, also of footage still to come
    no           INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    case_id      TEXT,
    reason       TEXT    NOT NULL,
    created_by   TEXT,
    created_us   INTEGER NOT NULL,
    start_us     INTEGER NOT NULL,
    end_us       INTEGER NOT NULL CHECK (end_us > start_us), -- 2^62 where it has no end
    expires_us   INTEGER,
    review_us    INTEGER,                      -- somebody should ask by then whether it is needed any longer
    released_us  INTEGER,                      -- NULL: in force
    released_by  TEXT,
    release_reason TEXT,
    marked       INTEGER NOT NULL DEFAULT 0 CHECK (marked IN (0, 1)), -- segment.held says of all what it should
    CHECK ((released_us IS NULL) = (release_reason IS NULL))
) STRICT;
CREATE INDEX hold_in_force ON hold (no) WHERE released_us IS NULL;
CREATE INDEX hold_to_mark ON hold (no) WHERE marked = 0;

CREATE TABLE hold_camera (
    camera_no INTEGER NOT NULL REFERENCES camera (no),
    hold_no   INTEGER NOT NULL REFERENCES hold (no) ON DELETE CASCADE,
    PRIMARY KEY (camera_no, hold_no)
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_camera_by_hold ON hold_camera (hold_no);

CREATE TRIGGER segment_comes_under_hold AFTER INSERT ON segment WHEN EXISTS (
    SELECT 1 FROM hold_camera c JOIN hold h ON h.no = c.hold_no
     WHERE c.camera_no = NEW.camera_no AND h.released_us IS NULL
       AND h.start_us < NEW.end_us AND h.end_us > NEW.start_us)
BEGIN
    UPDATE segment SET held = 1 WHERE no = NEW.no;
END;
CREATE TRIGGER copy_comes_under_hold AFTER INSERT ON copy
WHEN (SELECT held FROM segment WHERE no = NEW.segment_no) BEGIN
    UPDATE copy SET urgent = 1, locked = 0 WHERE segment_no = NEW.segment_no AND backend = NEW.backend;
END;
CREATE TRIGGER lock_in_doubt AFTER UPDATE OF state, stored_us ON copy -- what is put again is another version
WHEN NEW.locked = 1 AND (NEW.state IN ('pending', 'stored') OR NEW.stored_us IS NOT OLD.stored_us) BEGIN
    UPDATE copy SET locked = 0 WHERE segment_no = NEW.segment_no AND backend = NEW.backend;
END;
CREATE TRIGGER held_stays BEFORE UPDATE OF deletion_due_us, source_state ON segment
WHEN ((OLD.deletion_due_us IS NULL AND NEW.deletion_due_us IS NOT NULL)
      OR (OLD.source_state = 'present' AND NEW.source_state = 'pruning'))
 AND (OLD.held = 1 OR EXISTS (
    SELECT 1 FROM hold_camera c JOIN hold h ON h.no = c.hold_no
     WHERE c.camera_no = OLD.camera_no AND h.released_us IS NULL
       AND h.start_us < OLD.end_us AND h.end_us > OLD.start_us))
BEGIN
    SELECT RAISE(ABORT, 'a hold is in force');
END;

CREATE TABLE place (                           -- roots and stores, and the identity each was first seen with
    kind      TEXT NOT NULL,                   -- root, store, exports, thumbnails
    location  TEXT NOT NULL,
    identity  TEXT NOT NULL,
    noted_us  INTEGER NOT NULL,
    PRIMARY KEY (kind, location)
) STRICT, WITHOUT ROWID;

CREATE TABLE watched (                         -- when a root was looked at whole: footage of then would be here
    root     BLOB    NOT NULL,
    start_us INTEGER NOT NULL,
    end_us   INTEGER NOT NULL,
    PRIMARY KEY (root, start_us)
) STRICT, WITHOUT ROWID;

CREATE TABLE clock_step (                      -- the wall clock jumped; by_us > 0: forward
    no    INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,                    -- by the clock after the step
    by_us INTEGER NOT NULL
) STRICT;

CREATE TABLE retention_day (                   -- the report's history: what was kept on each day
    day          TEXT    NOT NULL,             -- YYYY-MM-DD, UTC
    camera_id    BLOB    NOT NULL CHECK (length(camera_id) = 16),
    required_us  INTEGER,                      -- at_least; NULL: nothing was asked for
    achieved_us  INTEGER NOT NULL,
    longest_gap_us INTEGER NOT NULL,
    PRIMARY KEY (day, camera_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE covered_day (                     -- a camera's coverage by days: a report must not read a year's rows
    camera_no  INTEGER NOT NULL REFERENCES camera (no),
    day        INTEGER NOT NULL,               -- since 1970-01-01, UTC
    until_us   INTEGER NOT NULL,               -- how far it was looked at, from its begin
    summary    TEXT    NOT NULL,               -- JSON (reporting/stretches.py)
    PRIMARY KEY (camera_no, day)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER covered_day_changed AFTER INSERT ON ledger
WHEN NEW.kind IN ('registered', 'adopted', 'lost', 'found', 'deleted')
BEGIN
    DELETE FROM covered_day
     WHERE camera_no = (SELECT no FROM camera WHERE id = NEW.camera_id)
       AND day BETWEEN NEW.start_us / 86400000000 AND NEW.end_us / 86400000000 AND until_us > NEW.start_us;
END;

CREATE TABLE retrieval (                       -- spans that XProtect was asked to fetch, until it is done with them
    identifier BLOB    PRIMARY KEY CHECK (length(identifier) = 16), -- ours: follows from camera and span
    camera_id  BLOB    NOT NULL CHECK (length(camera_id) = 16),     -- our camera
    start_us   INTEGER NOT NULL,
    end_us     INTEGER NOT NULL CHECK (end_us > start_us),
    task       TEXT,                           -- XProtect's; NULL: asked for, and the answer is not known
    asked_us   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX retrieval_by_camera ON retrieval (camera_id, start_us);

CREATE TABLE vms_mark (                        -- bookmarks and evidence locks in XProtect, for holds
    id         BLOB    PRIMARY KEY CHECK (length(id) = 16), -- ours, and in the mark's reference
    hold_id    BLOB    NOT NULL CHECK (length(hold_id) = 16),
    camera_id  BLOB    NOT NULL CHECK (length(camera_id) = 16), -- our camera
    kind       TEXT    NOT NULL CHECK (kind IN ('bookmark', 'evidence_lock')),
    start_us   INTEGER NOT NULL,
    end_us     INTEGER NOT NULL CHECK (end_us > start_us),
    state      TEXT    NOT NULL DEFAULT 'wanted'
               CHECK (state IN ('wanted', 'placed', 'unsupported', 'removing', 'removed')),
    remote_id  TEXT,                           -- XProtect's, once it is placed
    asked      INTEGER NOT NULL DEFAULT 0,     -- how often it was asked for: the answer may be lost, and the mark there
    error      TEXT,
    due_us     INTEGER NOT NULL DEFAULT 0,     -- not tried before
    at_us      INTEGER NOT NULL,               -- of the state
    device     BLOB    CHECK (length(device) = 16) -- XProtect's camera that it is for
) STRICT, WITHOUT ROWID;
CREATE INDEX vms_mark_by_hold ON vms_mark (hold_id, kind, camera_id, device, start_us);
CREATE INDEX vms_mark_by_state ON vms_mark (hold_id, kind, state);
CREATE INDEX vms_mark_due ON vms_mark (due_us, kind DESC) WHERE state IN ('wanted', 'removing'); -- locks first

CREATE INDEX copy_gap ON copy (backend, start_us, segment_no) WHERE state = 'gap';
CREATE INDEX copy_waiting ON copy (backend, segment_no) -- as they came; worded so that no other question takes it
    WHERE state = 'pending' OR state = 'stored';

CREATE INDEX ledger_audit ON ledger (no) -- who saw, fetched, held and changed what
    WHERE kind IN ('held', 'released', 'exported', 'downloaded') OR cause IN ('api_read', 'api_change', 'api_refused');
