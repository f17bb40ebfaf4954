-- How a human puts back what a flip changes on another platform: known before the write, so that no crash loses it.
ALTER TABLE outbox ADD COLUMN undo TEXT;
