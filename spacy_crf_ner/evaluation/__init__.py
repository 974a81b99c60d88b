"""How well a pipeline does on a corpus, and where it fails."""
