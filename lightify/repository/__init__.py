"""The script's own repository: which files it imports, and their definitions linked into one tree."""
