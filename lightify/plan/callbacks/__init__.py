"""What a script keeps and when it ends, as the callbacks of the Trainer."""
