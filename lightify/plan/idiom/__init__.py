"""What a Trainer's user would no longer write by hand."""
