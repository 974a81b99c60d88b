"""The settings of the service."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Optional

SETTINGS = "SPACY_CRF_NER_SERVICE"
"""The environment variable by which worker processes get their settings."""


@dataclass(frozen=True)
class Settings:
    """What a service is made of.

    model (str): Package name or directory of the pipeline.
    component (Optional[str]): Its crf_ner, if it has several.
    max_characters (int): Of a text.
    max_texts (int): Of a request.
    max_bytes (int): Of a request's body.
    max_waiting (int): Texts that may wait for an answer, in each process.
    timeout (float): Seconds after which a request is given up, and a body that has not come.
    batch_milliseconds (float): How long a text waits for others at most, to be computed with them.
    batch_texts (int): Texts that are computed together.
    batch_characters (int): Characters that are computed together; a longer text is computed alone.
    RAISES (ValueError): Fewer texts may wait than a request may have.
    """

    model: str
    component: Optional[str] = None
    max_characters: int = 20_000
    max_texts: int = 100
    max_bytes: int = 4_000_000
    max_waiting: int = 1_000
    timeout: float = 30.0
    batch_milliseconds: float = 3.0
    batch_texts: int = 64
    batch_characters: int = 20_000

    def __post_init__(self) -> None:
        if self.max_waiting < self.max_texts:
            raise ValueError(
                f"max_waiting must be max_texts or more, got {self.max_waiting} and {self.max_texts}: a full "
                "request would never be taken"
            )

    def to_environment(self) -> None:
        """Leave the settings to worker processes."""
        os.environ[SETTINGS] = json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> "Settings":
        """What `to_environment` left."""
        return cls(**json.loads(os.environ[SETTINGS]))
