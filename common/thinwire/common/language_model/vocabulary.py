"""
The tokenizer's half of a language model: ids ↔ text, and digests of what decides either, part by part.

Two tokenizers of equal parts mean the same by every id and by every text; that two files differ says nothing,
for libraries write one tokenizer in many ways.
So what is digested is the tokenizer as it was loaded, and in it what reaches an id or a text only:

- *token strings*: every id with its string.
- *added tokens*: those matched before anything else, with their flags; `normalized` only where there is a
  normaliser.
- *normaliser*, *pre-tokenizer*, *decoder*: as tokenizer.json has them, without what sets offsets only.
- *model*: its type, merges, scores and settings.
- *post-processor*: by what it does: the ids put before and after a text, whichever layer puts them.
- *ids of sample texts*: of a fixed list and of token strings, and their text. It holds what stands in no file
  (the library's own layer), and is all there is of a tokenizer without a tokenizer.json besides its strings,
  added tokens and class.

Not compared, because not used: truncation and padding (`Vocabulary.encode` asks for neither), chat templates,
the names and roles of special tokens.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from thinwire.common.session.messages import TOKENIZER_PARTS, VocabularyIdentity

_SAMPLED_TOKENS = 1024
"""Token strings among the sample texts, evenly spread over the ids: each leads through its own merges."""
_SAMPLE_TEXTS = (
    "", " ", "  a", "a ", " a b", "\n", "\n\n  x", "\t\ty\r\n", "a\u00a0b", "\u200b\u2060c\ufeff",
    "The quick brown fox can't, won't and didn't; I'll see: they've 'em?", "HELLO World iPhone",
    "0 1 12 123 1234 12345678 3.14159 1,000,000 1e-7 0xFF",
    "def f(x):\n    return [x**2 for x in y]  # ok\n",
    "https://a.example/b?c=d&e=%20f", "....---===___***///\\\\ (((a)))",
    "na\u00efve nai\u0308ve \u00c5 A\u030a \u212b", "stra\u00dfe STRASSE \u0130\u0131 \ufb01 \uff21\uff11",
    "\u00bd \u2460", "\u65e5\u672c\u8a9e \u4e2d\u6587\u3002\ud55c\uad6d\uc5b4",
    "\u041f\u0440\u0438\u0432\u0435\u0442",
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947",
    "\U0001f642\U0001f1e9\U0001f1ea", "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u0000\u0001\u001b[0m\u007f",
    "\u2581 \u0120 ## </w> <0x0A> <unk> <s> </s> [CLS]", " " * 17 + "z" + " " * 4, "a" * 40,
    "\u2018single\u2019 \u201cdouble\u201d \u2013 \u2014 \u2026",
)  # fmt: skip
"""Spaces, case, digits, code, composed and decomposed accents, compatibility forms, scripts, controls."""
_STAGES = ("normalizers", "pretokenizers", "processors", "decoders")
"""Names under which a Sequence of tokenizer.json keeps its stages."""


class Vocabulary:
    """A transformers tokenizer, reduced to what sessions need."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    @cached_property
    def identity(self) -> VocabularyIdentity:
        """
        V and the digests that the two ends compare.

        V is the highest id the tokenizer defines plus one, added and special tokens included.
        """
        parts = _part_digests(self._tokenizer)
        return VocabularyIdentity(
            max(self._tokenizer.get_vocab().values()) + 1,
            hashlib.sha256(b"".join(parts)).digest(),
            tuple(int.from_bytes(part[:4], "little") for part in parts),
        )

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The ids that `decode` leaves out, by their names."""
        named = dict(zip(self._tokenizer.all_special_tokens, self._tokenizer.all_special_ids, strict=True))
        added = {str(token): index for index, token in self._tokenizer.added_tokens_decoder.items()}
        return {
            name: index for name, index in {**added, **named}.items() if name and not self.decode([index])
        }

    def encode(self, text: str) -> list[int]:
        """Token ids of all of `text`, with the special tokens the tokenizer itself puts around a text."""
        # Not verbose: a prompt's length is judged elsewhere.
        return list(self._tokenizer(text, verbose=False)["input_ids"])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`; special tokens are left out, spaces are kept as they are."""
        return _text_of(self._tokenizer, token_ids)


def _part_digests(tokenizer: Any) -> tuple[bytes, ...]:
    """SHA-256 of each of `TOKENIZER_PARTS`, of a tokenizer with a tokenizer.json or without."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    stages: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    normalizer = _canonical(stages.get("normalizer"))
    model = _model(stages["model"]) if stages else {"class": type(tokenizer).__name__}
    parts = {
        "token strings": _strings(tokenizer),
        "added tokens": _json(_added_tokens(tokenizer, normalized=not stages or normalizer is not None)),
        "normaliser": _json(normalizer),
        "pre-tokenizer": _json(_canonical(stages.get("pre_tokenizer"))),
        "model": _json(model),
        "post-processor": _json(_put_around(tokenizer)),
        "decoder": _json(_decoder(_canonical(stages.get("decoder")))),
        "ids of sample texts": _json(_samples(tokenizer)),
    }
    return tuple(hashlib.sha256(parts[name]).digest() for name in TOKENIZER_PARTS)


def _canonical(stage: Any) -> Any:
    """
    A stage of tokenizer.json in one of its many spellings.

    Absent, null and empty are one; a Sequence is flattened, and one of a single stage is that stage;
    `trim_offsets` decides no id.
    """
    if isinstance(stage, list):
        return [_canonical(item) for item in stage]
    if not isinstance(stage, dict):
        return stage
    if stage.get("type") == "Sequence":
        inner = [_canonical(one) for name in _STAGES for one in stage.get(name, [])]
        flat = [
            one
            for item in inner
            if item is not None
            for one in (item["stages"] if item.get("type") == "Sequence" else [item])
        ]
        if len(flat) < 2:
            return flat[0] if flat else None
        return {"type": "Sequence", "stages": flat}
    kept = {name: _canonical(value) for name, value in stage.items() if name != "trim_offsets"}
    return {name: value for name, value in kept.items() if value not in (None, "", [], {})} or None


def _strings(tokenizer: Any) -> bytes:
    """Every defined id in ascending order with the length of its string in UTF-8 bytes, and those bytes."""
    by_id = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    encoded = ((index, token.encode("utf-8", "surrogatepass")) for index, token in by_id)
    return b"".join(struct.pack("<II", index, len(token)) + token for index, token in encoded)


def _added_tokens(tokenizer: Any, *, normalized: bool) -> list[list[Any]]:
    """Id, string and flags of each, by id."""
    flags = ("single_word", "lstrip", "rstrip", "special")
    return [
        [index, one.content, *(getattr(one, flag) for flag in flags), normalized and one.normalized]
        for index, one in sorted(tokenizer.added_tokens_decoder.items())
    ]


def _model(model: dict[str, Any]) -> Any:
    """Without its strings, which are compared by themselves; scores stay (Unigram's, in a list)."""
    kept = {name: value for name, value in model.items() if not (name == "vocab" and isinstance(value, dict))}
    merges = [one.split(" ", 1) if isinstance(one, str) else one for one in kept.pop("merges", [])]
    return [_canonical(kept), merges]


def _decoder(decoder: Any) -> Any:
    """A byte-level decoder has the settings of the pre-tokenizer of that name, and uses none."""
    if not isinstance(decoder, dict):
        return decoder
    if decoder.get("type") == "Sequence":
        return {"type": "Sequence", "stages": [_decoder(one) for one in decoder["stages"]]}
    return {"type": "ByteLevel"} if decoder.get("type") == "ByteLevel" else decoder


def _put_around(tokenizer: Any) -> list[list[int]]:
    """Ids put before and after a text."""
    whole = _ids(tokenizer, ["a"])[0]
    plain = _ids(tokenizer, ["a"], add_special_tokens=False)[0]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return [whole[:start], whole[start + len(plain) :]]
    return [whole]


def _samples(tokenizer: Any) -> list[list[Any]]:
    """Ids of every sample text, and the text of those ids."""
    added = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items())]
    defined = sorted(tokenizer.get_vocab().values())
    step = max(1, len(defined) // _SAMPLED_TOKENS)
    tokens = [_text_of(tokenizer, [index]) for index in defined[::step]]
    texts = [*_SAMPLE_TEXTS, *added, "".join(added), " x ".join(added), *tokens]
    return [[ids, _text_of(tokenizer, ids)] for ids in _ids(tokenizer, texts)]


def _ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    with warnings.catch_warnings(action="ignore"):  # on samples that look odd
        return [list(ids) for ids in tokenizer(list(texts), verbose=False, **options)["input_ids"]]


def _text_of(tokenizer: Any, token_ids: Iterable[int]) -> str:
    """Text of `token_ids`; special tokens are left out, spaces are kept as they are."""
    options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(token_ids), **options))


def _json(value: Any) -> bytes:
    """One spelling."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
