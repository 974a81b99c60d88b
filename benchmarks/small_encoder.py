"""Pretrain a small Chinese BERT on a CPU by masked language modelling: something for comparisons to start from.

python benchmarks/small_encoder.py OUT TEXT [TEXT ...] [--minutes 40] [--hidden 192] [--layers 4] [--seed 0]

TEXT is a BIO file (one character and its tag per line) or JSON lines with a "text"; annotation is not looked at.
The folder OUT loads as an encoder does from the hub. It is written every 500 steps, so a run may be cut.
"""

import argparse
import json
import random
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Iterator, List

import torch
from tokenizers import normalizers
from torch.nn.utils import clip_grad_norm_
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast, DataCollatorForLanguageModeling

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def read(path: Path) -> Iterator[str]:
    """The texts of a file, in the widths that BERT's vocabularies hold."""
    if path.suffix == ".json":
        for line in path.read_text(encoding="utf-8").splitlines():
            yield unicodedata.normalize("NFKC", json.loads(line)["text"])
        return
    for sentence in path.read_text(encoding="utf-8").split("\n\n"):
        text = "".join(line.split()[0] for line in sentence.splitlines() if line.split())
        yield unicodedata.normalize("NFKC", text)


def make_tokenizer(texts: List[str], folder: Path) -> BertTokenizerFast:
    """A tokenizer whose vocabulary is the characters that occur twice; the width of characters is folded."""
    counts = Counter(char.lower() for text in texts for char in text if not char.isspace())
    chars = sorted(char for char, count in counts.items() if count > 1)
    inside = [f"##{char}" for char in chars if char.isascii() and char.isalnum()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *chars, *inside]), encoding="utf-8")
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=512)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), backend.normalizer])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    texts = [text for path in args.texts for text in read(path) if text]
    tokenizer = make_tokenizer(texts, args.out)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 48,
        intermediate_size=4 * args.hidden,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    encoded = [{"input_ids": ids} for ids in tokenizer(texts, truncation=True, max_length=128)["input_ids"]]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    n_pieces = sum(len(item["input_ids"]) for item in encoded)
    print(f"{len(texts)} texts, {n_pieces} word-pieces, {len(tokenizer)} in the vocabulary")
    began = time.monotonic()
    step, losses, seen = 0, [], 0
    while (elapsed := (time.monotonic() - began) / 60) < args.minutes:
        # One epoch in batches of like length.
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]["input_ids"]) // 8, random.random()))
        batches: List[List[int]] = [order[i : i + 32] for i in range(0, len(order), 32)]
        random.shuffle(batches)
        for batch in batches:
            elapsed = (time.monotonic() - began) / 60
            if elapsed >= args.minutes:
                break
            rate = min(1.0, (step + 1) / 500) * (1 - elapsed / args.minutes)
            optimizer.param_groups[0]["lr"] = 1e-3 * rate
            inputs = collate([encoded[i] for i in batch])
            hidden = model.bert(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
            masked = inputs["labels"] != -100
            loss = torch.nn.functional.cross_entropy(model.cls(hidden[masked]), inputs["labels"][masked])
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            seen += int(inputs["attention_mask"].sum())
            step += 1
            if step % 500 == 0:
                print(
                    f"{elapsed:6.1f} min  step {step}  {seen} word-pieces  loss {sum(losses) / 500:.3f}",
                    flush=True,
                )
                losses.clear()
                save(model, tokenizer, args.out)
    save(model, tokenizer, args.out)
    print(f"done after {step} steps")


def save(model: BertForMaskedLM, tokenizer: BertTokenizerFast, folder: Path) -> None:
    """Save as a checkpoint of the hub is: with the head of the pretraining."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main()
