"""Write the model card of a pipeline, which `spacy package` takes over as the README of the package.

python docs/model_card.py MODEL [--meta META.json] [--scores SCORES.json] [--force]

The card is MODEL/README.md: docs/model_card.md.jinja, filled with the pipeline's meta.json, with what META.json
(the file for `spacy package --meta`) says instead, and with the scores that `crf evaluate --output` wrote.
Words in capitals are for the author to replace.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional

import srsly
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = "model_card.md.jinja"


def model_card(model: Path, meta: Optional[Path] = None, scores: Optional[Path] = None) -> str:
    """Fill the template.

    model (Path): The folder of the pipeline.
    meta (Optional[Path]): What takes the place of the pipeline's own meta data.
    scores (Optional[Path]): The scores.
    RETURNS (str): The card.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    known = {"author": "", "url": "", "license": "", "description": "", **srsly.read_json(model / "meta.json")}
    if meta is not None:
        known.update(srsly.read_json(meta))
    return environment.get_template(TEMPLATE).render(
        meta=known,
        scores=None if scores is None else srsly.read_json(scores),
        scores_file="" if scores is None else scores.name,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the model card of a pipeline")
    parser.add_argument("model", type=Path, help="folder of the pipeline")
    parser.add_argument("--meta", type=Path, help="the file that `spacy package --meta` will get")
    parser.add_argument("--scores", type=Path, help="what `crf evaluate --output` wrote")
    parser.add_argument("--force", action="store_true", help="overwrite the card that is there")
    args = parser.parse_args()
    card = args.model / "README.md"
    if card.exists() and not args.force:
        sys.exit(f"{card}: is there already; overwrite it with --force")
    card.write_text(model_card(args.model, args.meta, args.scores), encoding="utf8")
    print(f"Wrote {card}")


if __name__ == "__main__":
    main()
