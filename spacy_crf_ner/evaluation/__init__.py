"""What the data holds, how well a pipeline does on it, and where it fails."""
