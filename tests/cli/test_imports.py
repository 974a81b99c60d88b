"""What the commands import before they know which of them runs: spaCy imports all commands for each."""

import subprocess
import sys

SLOW = ("fastapi", "huggingface_hub", "matplotlib", "onnx", "onnxruntime", "peft", "pyarrow", "transformers")
"""Each takes longer to import than most commands take to run."""


def test_what_serves_one_command_is_imported_when_it_runs() -> None:
    code = "import sys, spacy_crf_ner.cli, spacy_crf_ner.corpus.vocabulary; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(SLOW) & set(done.stdout.split())
