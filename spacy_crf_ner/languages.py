"""What is known of languages beyond what spaCy says."""

SPACELESS = frozenset({"ja", "th", "zh"})
"""The languages that write no spaces between words."""

CHARACTER_LANGS = ("zh", "ja")
"""The languages whose tokens are embedded by character and bigram."""
