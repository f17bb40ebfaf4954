-- What is left of hours whose minutes are no longer kept, of series that a long rule or an objective names.
CREATE TABLE rollups (
    variant TEXT NOT NULL,
    metric TEXT NOT NULL,
    slice TEXT NOT NULL,
    hour INTEGER NOT NULL,
    shape TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (variant, metric, slice, hour)
);
CREATE INDEX rollups_hour ON rollups (hour);
