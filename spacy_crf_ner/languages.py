"""What is known of languages beyond what spaCy says."""

SPACELESS = frozenset({"ja", "th", "zh"})
"""The languages that write no spaces between words."""
