"""Tree + Plan -> text: the pieces by template slot, the rest of the script, and the check of the result."""
