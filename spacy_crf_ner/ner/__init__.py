"""The pipe `crf_ner`: from potentials and what is known of a doc to its entities, and back to a gradient."""
