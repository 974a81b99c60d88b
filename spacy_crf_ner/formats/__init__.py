"""Annotation formats: one reader a format, and what turns its sentences into Docs."""
