-- What each decision was judged from: JSON, packed by zstd. The audit chain covers it by its hash.
CREATE TABLE decision_grounds (
    decision TEXT PRIMARY KEY REFERENCES decisions (id),
    content BLOB NOT NULL
);

-- Numbered inputs were never written: decisions are judged again from their grounds.
DROP TABLE inputs;
