"""What the Trainer is given, and where its own ways have to be made up for."""
