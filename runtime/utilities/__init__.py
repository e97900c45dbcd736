"""Import paths of Lightning that scripts use and whose names need a place of their own."""
