"""Who steps, and how: automatic, in the script's own way, or manual optimization."""
