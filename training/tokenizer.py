"""The pair's tokenizer: byte-level BPE, 8192 tokens, learnt from the training text only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.corpus import Document

VOCABULARY = 8192
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
LEARNING_STRIDE = 3  # every third document: merges stop changing, and it takes half a minute
# Words take one leading character with them (".append", "_size", " self"), numbers are cut to
# three digits, and punctuation takes a following newline and indentation with it, all but one
# space, which belongs to the next word. The last is what Python sources are full of.
PATTERN = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+(?:\n\s*(?!\S))?"
    r"|\s+(?!\S)|\s+"
)


def learn(documents: list[Document]) -> Tokenizer:
    """Learns the merges from every `LEARNING_STRIDE`-th document."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    texts = (d.text for d in documents[::LEARNING_STRIDE])
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(f"the tokenizer has {tokenizer.get_vocab_size()} tokens")
    if tokenizer.token_to_id(END_OF_TEXT) != END_OF_TEXT_ID:
        raise ValueError(f"{END_OF_TEXT} is not token {END_OF_TEXT_ID}")
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(folder: Path) -> Tokenizer:
    """Reads a folder's tokenizer.json."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def encode(tokenizer: Tokenizer, documents: list[Document], batch: int = 256) -> np.ndarray:
    """All documents in one stream of token ids, uint16 [tokens].

    The end-of-text token follows a document only where its file really ends there: a cut
    fragment must not teach the model to stop in the middle of a function.
    """
    pieces: list[np.ndarray] = []
    end = np.array([END_OF_TEXT_ID], dtype=np.uint16)
    for start in range(0, len(documents), batch):
        part = documents[start : start + batch]
        encodings = tokenizer.encode_batch_fast([d.text for d in part])
        for document, encoding in zip(part, encodings, strict=True):
            pieces.append(np.array(encoding.ids, dtype=np.uint16))
            if document.ends_file:
                pieces.append(end)
    return np.concatenate(pieces)
