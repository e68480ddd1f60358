-- Milestone XProtect: retrievals under way, marks for holds, gaps.
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

DROP INDEX copy_undelivered;
DROP INDEX copy_urgent;
CREATE INDEX copy_undelivered ON copy (backend, start_us, segment_no, due_us, state)
    WHERE state IN ('pending', 'stored'); -- all that is asked of those that are put off: they may be very many
CREATE INDEX copy_urgent ON copy (backend, start_us, segment_no, due_us, state, urgent)
    WHERE urgent = 1 AND state IN ('pending', 'stored');
CREATE INDEX copy_put_off ON copy (backend, due_us, segment_no) WHERE due_us <> 0 AND state IN ('pending', 'stored');
CREATE INDEX copy_gap ON copy (backend, start_us, segment_no) WHERE state = 'gap';
CREATE INDEX copy_waiting ON copy (backend, segment_no) -- as they came; worded so that no other question takes it
    WHERE state = 'pending' OR state = 'stored';

-- Tokens that see some cameras only, that expire, and their last use; the audit.
ALTER TABLE token ADD COLUMN cameras TEXT;
ALTER TABLE token ADD COLUMN expires_us INTEGER;
ALTER TABLE token ADD COLUMN used_us INTEGER;
ALTER TABLE token ADD COLUMN used_from TEXT;

CREATE INDEX ledger_audit ON ledger (no) -- who saw, fetched, held and changed what
    WHERE kind IN ('held', 'released', 'exported', 'downloaded') OR cause IN ('api_read', 'api_change', 'api_refused');
