"""A process that knows nothing but spaCy: it loads pipelines and says what they compute.

Each line of its input is a job, each line of its output the answer; see `tests.encoder.util.in_new_process`.
"""

import json
import sys
from typing import Any, List, Sequence

import numpy
import spacy
from numpy.typing import NDArray
from spacy.language import Language


def outputs(nlp: Language, texts: Sequence[str]) -> List[NDArray[Any]]:
    """Each text's word-piece vectors and its emissions, as far as the pipeline has a component for them."""
    found = []
    for text in texts:
        doc = nlp(text)
        if "transformer" in nlp.pipe_names:
            found.append(numpy.asarray(doc._.trf_data.model_output["last_hidden_state"]))
        if "crf_ner" in nlp.pipe_names:
            pipe: Any = nlp.get_pipe("crf_ner")
            found.append(numpy.asarray(pipe.predict([doc]).by_doc()[0]))
    return found


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        try:
            nlp = spacy.load(job["path"], config=job["config"])
            numpy.savez(job["out"], *outputs(nlp, job["texts"]))
            answer = {}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
