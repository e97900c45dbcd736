"""What a script prints and adds up, as `self.log` of the generated module."""
