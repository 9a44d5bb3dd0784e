"""One small tokenizer of every kind of decoder, with pieces whose texts depend on their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE, WordPiece
from tokenizers.pre_tokenizers import ByteLevel

SPECIAL = "<|end|>"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_WORDS = ["▁", "▁▁", "▁a", "▁the", "a", "b", ".", "\n", "水", "é", "\ufffd", "▁\ufffd"]


def _tokenizer(tokens: Sequence[str], decoder: decoders.Decoder, *, model: str = "bpe") -> Tokenizer:
    """`tokens` with ids in their order, and a special token behind them."""
    vocabulary = {token: token_id for token_id, token in enumerate(dict.fromkeys(tokens))}
    chosen = (
        BPE(vocabulary, [], byte_fallback="<0x00>" in vocabulary)
        if model == "bpe"
        else WordPiece(vocabulary, unk_token="[UNK]")
    )
    tokenizer = Tokenizer(chosen)
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(SPECIAL, special=True, normalized=False)])
    return tokenizer


def _byte_level() -> Tokenizer:
    """All single bytes, and pieces that begin and end within characters."""
    alphabet = ByteLevel.alphabet()
    letters = sorted(alphabet, key=ord)
    of_byte = dict(zip(_bytes_of(letters), letters, strict=True))
    pieces = [b" the", b"a\xe6", b"\xb0\xb4\xe6", b"\xb0\xb4", b"\x9f\x98", b"\xb4b", b"\xe6\xb0", b" "]
    joined = ["".join(of_byte[byte] for byte in piece) for piece in pieces]
    return _tokenizer([*letters, *joined], decoders.ByteLevel())


def _bytes_of(letters: Sequence[str]) -> list[int]:
    """The byte that each letter of the byte alphabet stands for."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in plain]
    return [ord(x) if ord(x) < 0x100 else moved[ord(x) - 0x100] for x in letters]


def _byte_fallback(*, strips: bool) -> Tokenizer:
    chain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if strips:
        chain.append(decoders.Strip(" ", 1, 0))
    return _tokenizer([*_BYTES, *_WORDS], decoders.Sequence(chain))


def _word_piece() -> Tokenizer:
    words = ["[UNK]", "the", "##s", "##水", "a", ".", ",", "'", "n't", "##n't", "don", "not", "é", "\ufffd"]
    return _tokenizer(words, decoders.WordPiece(cleanup=True), model="wordpiece")


TOKENIZERS = {
    "byte-level": _byte_level(),
    "byte-fallback": _byte_fallback(strips=False),
    "byte-fallback that strips": _byte_fallback(strips=True),
    "wordpiece": _word_piece(),
    "metaspace that prepends": _tokenizer(_WORDS, decoders.Metaspace(prepend_scheme="always")),
    "metaspace that prepends first": _tokenizer(_WORDS, decoders.Metaspace(prepend_scheme="first")),
    "metaspace": _tokenizer(_WORDS, decoders.Metaspace(prepend_scheme="never")),
    "suffixes": _tokenizer(["a", "b</w>", "the</w>", "é", ".</w>", "\ufffd"], decoders.BPEDecoder("</w>")),
}
"""By the kind of their decoder."""


def decode(tokenizer: Tokenizer, token_ids: Sequence[int]) -> str:
    """As a vocabulary decodes: without special tokens."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))


def byte_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """`text` as byte tokens of a byte-fallback tokenizer."""
    return [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in text.encode()]
