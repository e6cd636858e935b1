-- How much of the app's output is in the log: written with the lines, so that a server that is killed neither loses nor
-- repeats any. NULL before the first line.
ALTER TABLE microvms ADD COLUMN output_position INTEGER;
