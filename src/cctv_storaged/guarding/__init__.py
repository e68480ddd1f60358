"""The right disk: nothing is written, deleted or missed at a place that is not the one the journal knows."""
