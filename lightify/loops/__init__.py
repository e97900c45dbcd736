"""The loops that train, opened: their heads, the way down to the batches, and what surrounds them; decides nothing."""
