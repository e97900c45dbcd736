"""Import paths of Lightning whose last name exists twice: only these need a place of their own."""
