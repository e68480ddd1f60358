-- works-with: 1
--
-- Which host an export is of, and a row of every host. Programs that know version 1 only go on: their exports
-- come without a host, and each host takes its own over with the next word of them (their ids are random, so
-- that a host knows its own).

ALTER TABLE exports ADD COLUMN IF NOT EXISTS host_id TEXT NOT NULL DEFAULT '';

-- How each host was when it said so last. The clock is the server's: the hosts' own may differ. A journal of a
-- host is a row: two of one name are two hosts that took the same one, or a host whose journal was made anew.
CREATE TABLE storage_hosts (
    host_id              TEXT NOT NULL,              -- written as in segments
    journal_id           TEXT NOT NULL,              -- of the journal: the hash that its ledger begins with
    run_id               UUID NOT NULL,              -- of the process; a new one with each start
    seen_at              TIMESTAMP WITH TIME ZONE NOT NULL,
    started_at           TIMESTAMP WITH TIME ZONE NOT NULL,
    version              TEXT NOT NULL,
    config_version       TEXT,                       -- what whoever rolls settings out calls them
    config_hash          TEXT NOT NULL,              -- of the settings in force, without secrets
    config_waiting       TEXT[] NOT NULL DEFAULT '{}', -- settings that were reloaded and wait for a restart
    mode                 VARCHAR(20) NOT NULL,       -- LOCAL, MILESTONE, BOTH
    backend              VARCHAR(50) NOT NULL,       -- MINIO, S3, FILESYSTEM
    cameras              INTEGER NOT NULL,
    backlog_segments     BIGINT NOT NULL,            -- not yet verified, over all backends
    backlog_bytes        BIGINT NOT NULL,
    copies_failed        BIGINT NOT NULL,            -- copies that wait for a human
    oldest_undelivered   TIMESTAMP WITH TIME ZONE,   -- its registration; null with none
    disk_days_left       DOUBLE PRECISION,           -- of the disk that is full first; null: none ever is
    alarms               JSONB NOT NULL DEFAULT '[]', -- [{"name", "subject", "text", "since"}], the first ones
    alarms_standing      INTEGER NOT NULL,           -- how many there are
    PRIMARY KEY (host_id, journal_id)
);
