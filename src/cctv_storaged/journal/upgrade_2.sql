-- Playback needs to know whether one segment's stream goes on in the next.
ALTER TABLE segment ADD COLUMN stream_ticks INTEGER;
ALTER TABLE segment ADD COLUMN stream_print BLOB;
