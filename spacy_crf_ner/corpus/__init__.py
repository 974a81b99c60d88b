"""What a corpus holds: reading it for training, splitting it, and looking for what will hurt."""
