-- Retention, holds, the right-disk guard, causes of gaps; the ledger becomes a chain.
ALTER TABLE camera ADD COLUMN first_us INTEGER;
UPDATE camera SET first_us = (SELECT min(start_us) FROM segment WHERE camera_no = camera.no);
DROP TRIGGER segment_added;
CREATE TRIGGER segment_added AFTER INSERT ON segment BEGIN
    UPDATE camera SET segments = segments + 1, bytes = bytes + NEW.size_bytes,
                      longest_us = max(longest_us, NEW.end_us - NEW.start_us),
                      first_us = min(coalesce(first_us, NEW.start_us), NEW.start_us)
     WHERE no = NEW.camera_no;
END;

ALTER TABLE segment ADD COLUMN deletion_cause TEXT;
CREATE INDEX segment_held ON segment (no) WHERE held = 1;
ALTER TABLE copy ADD COLUMN locked INTEGER;
CREATE INDEX copy_locked ON copy (backend, segment_no) WHERE locked = 1;
CREATE INDEX copy_to_lock ON copy (backend, segment_no) WHERE locked = 0 AND state = 'verified';
CREATE INDEX copy_to_unlock ON copy (backend, segment_no) WHERE locked = 2;
CREATE INDEX copy_damaged ON copy (backend, segment_no) WHERE state = 'failed' AND path IS NOT NULL; -- its bytes were there
ALTER TABLE set_aside ADD COLUMN camera_id BLOB CHECK (length(camera_id) = 16);
ALTER TABLE set_aside ADD COLUMN start_us INTEGER;
CREATE INDEX set_aside_by_camera ON set_aside (camera_id, start_us) WHERE camera_id IS NOT NULL;

ALTER TABLE ledger RENAME TO ledger_before;
DROP INDEX ledger_by_camera;
DROP INDEX ledger_losses;
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
INSERT INTO ledger
    SELECT no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail,
           chained(no, at_us, kind, segment_id, camera_id, start_us, end_us, cause, detail)
      FROM ledger_before ORDER BY no;
DROP TABLE ledger_before;
CREATE INDEX ledger_by_camera ON ledger (camera_id, start_us) WHERE kind IN ('lost', 'found', 'deleted');
CREATE INDEX ledger_losses ON ledger (cause) WHERE kind = 'lost';

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
