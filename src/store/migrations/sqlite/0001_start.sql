-- One row per fact about the database itself. Every write transaction locks `owner` first, so writers take turns.
CREATE TABLE owner (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL,
    holder TEXT NOT NULL
);
INSERT INTO owner (id, epoch, holder) VALUES (1, 0, '');

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);

-- Where the engine stands: numbers, opaque state, positions of the sources.
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE inputs (
    seq INTEGER PRIMARY KEY,
    wall INTEGER NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE TABLE sources (
    topic TEXT NOT NULL,
    part INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    watermark INTEGER,
    fates TEXT NOT NULL,
    PRIMARY KEY (topic, part)
);

CREATE TABLE transitions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    flag TEXT NOT NULL,
    rule TEXT NOT NULL,
    slice TEXT NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX transitions_flag ON transitions (flag, id);

-- Decisions with their evidence, as the engine said them.
CREATE TABLE decisions (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    wall INTEGER NOT NULL,
    flag TEXT NOT NULL,
    scope TEXT NOT NULL,
    rule TEXT NOT NULL,
    action TEXT NOT NULL,
    gate TEXT NOT NULL,
    at INTEGER NOT NULL,
    t0 INTEGER NOT NULL,
    incident TEXT,
    flag_version INTEGER NOT NULL,
    payload TEXT NOT NULL
);
CREATE INDEX decisions_seq ON decisions (seq);
CREATE INDEX decisions_flag ON decisions (flag, seq);

-- A latch is open until a human re-arms: one per (flag, scope).
CREATE TABLE latches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    flag TEXT NOT NULL,
    scope TEXT NOT NULL,
    decision TEXT NOT NULL UNIQUE REFERENCES decisions (id),
    incident TEXT,
    opened INTEGER NOT NULL,
    outcome TEXT,
    closed INTEGER,
    closed_by TEXT
);
CREATE UNIQUE INDEX latches_open ON latches (flag, scope) WHERE closed IS NULL;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    dedup TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    rank INTEGER NOT NULL,
    adapter TEXT NOT NULL,
    lane TEXT NOT NULL,
    flag TEXT,
    scope TEXT,
    decision TEXT,
    incident TEXT,
    awaits TEXT,
    payload TEXT NOT NULL,
    status TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    deadline INTEGER,
    expires INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    worker INTEGER,
    lease_until INTEGER,
    dirty INTEGER NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL,
    finished INTEGER,
    outcome TEXT,
    result TEXT,
    last_error TEXT
);
CREATE INDEX outbox_due ON outbox (not_before) WHERE status IN ('pending', 'claimed', 'standing');
CREATE INDEX outbox_lane ON outbox (lane, id) WHERE status IN ('pending', 'claimed', 'standing');
CREATE INDEX outbox_decision ON outbox (decision);
CREATE INDEX outbox_awaits ON outbox (awaits);

CREATE TABLE flags (
    key TEXT PRIMARY KEY,
    spec TEXT NOT NULL,
    declared INTEGER NOT NULL,
    held_share INTEGER,
    frozen_share INTEGER,
    frozen_by TEXT,
    killed INTEGER NOT NULL DEFAULT 0,
    version INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE flag_pins (
    flag TEXT NOT NULL REFERENCES flags (key),
    scope TEXT NOT NULL,
    decision TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (flag, scope)
);
CREATE TABLE flag_changes (
    flag TEXT NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    scope TEXT,
    decision TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (flag, version)
);

-- One unresolved incident per flag: its episode.
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    flag TEXT NOT NULL,
    variant TEXT NOT NULL,
    decision TEXT NOT NULL,
    severity TEXT NOT NULL,
    failure_class TEXT NOT NULL,
    title TEXT NOT NULL,
    status TEXT NOT NULL,
    at INTEGER NOT NULL,
    crossing INTEGER,
    t0 INTEGER,
    decided INTEGER,
    opened INTEGER NOT NULL,
    flip_done INTEGER,
    flip_outcome TEXT,
    page_accepted INTEGER,
    acked INTEGER,
    acked_by TEXT,
    resolved INTEGER,
    resolved_by TEXT,
    resolve_reason TEXT
);
CREATE UNIQUE INDEX incidents_open ON incidents (flag) WHERE resolved IS NULL;
CREATE INDEX incidents_opened ON incidents (opened);
CREATE TABLE incident_decisions (
    incident TEXT NOT NULL REFERENCES incidents (id),
    decision TEXT NOT NULL REFERENCES decisions (id),
    PRIMARY KEY (incident, decision)
);
CREATE TABLE incident_timeline (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    incident TEXT NOT NULL REFERENCES incidents (id),
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    decision TEXT,
    actor TEXT,
    detail TEXT NOT NULL
);
CREATE INDEX incident_timeline_incident ON incident_timeline (incident, id);

CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created INTEGER NOT NULL,
    revoked INTEGER
);

-- Each row's hash covers the one before; `audit_head` remembers the last, so that a cut tail shows.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL, hash TEXT NOT NULL);
INSERT INTO audit_head (id, last, hash) VALUES (1, 0, '');
