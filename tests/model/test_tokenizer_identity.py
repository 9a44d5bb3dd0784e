"""Two ends have one tokenizer if every text gets the same ids at both, and every id the same text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import torch_device
from loopback import generate, loopback, make_request
from model.checkpoints import END_OF_TEXT, VOCABULARY_SIZE, save_checkpoint, save_tokenizer
from thinwire.cloud.opening import check_vocabulary
from thinwire.common.errors import VocabularyMismatchError
from thinwire.common.language_model.vocabulary import Vocabulary
from thinwire.common.session.messages import TOKENIZER_PARTS, VocabularyIdentity

BEGIN_ID = 65
"""Of the token that stands for the beginning of a text in these tests."""


def loaded(folder: Path) -> Any:
    """As the daemons load it."""
    return transformers.AutoTokenizer.from_pretrained(folder)


def identity(tokenizer: Any) -> VocabularyIdentity:
    """Of a transformers tokenizer, or one of `tokenizers`."""
    if isinstance(tokenizer, Tokenizer):
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return Vocabulary(tokenizer).identity


def backend(**changes: Any) -> Tokenizer:
    """A BPE with two merges, and a stage of each kind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    strings = {token: index for index, token in enumerate([*alphabet, "th", "the"])}
    tokenizer = Tokenizer(models.BPE(strings, changes.get("merges", [("t", "h"), ("th", "e")])))
    tokenizer.normalizer = changes.get("normalizer", normalizers.NFC())
    tokenizer.pre_tokenizer = changes.get("pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.decoder = changes.get("decoder", decoders.ByteLevel())
    tokenizer.post_processor = changes.get("post_processor", begins_with("!"))
    flags = {"special": True, "normalized": False, **changes.get("flags", {})}
    tokenizer.add_special_tokens([AddedToken("<end>", **flags)])
    return tokenizer


def begins_with(token: str) -> Any:
    """A post-processor that puts `token` before a text."""
    token_id = sorted(pre_tokenizers.ByteLevel.alphabet()).index(token)
    return processors.TemplateProcessing(f"{token} $A", f"{token} $A $B", [(token, token_id)])


ANOTHER: dict[str, dict[str, Any]] = {
    "added tokens": {"flags": {"lstrip": True}},
    "normaliser": {"normalizer": normalizers.NFKC()},
    "pre-tokenizer": {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
    "model": {"merges": [("t", "h")]},
    "post-processor": {"post_processor": begins_with('"')},
    "decoder": {"decoder": decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])},
}


@pytest.mark.parametrize("part", ANOTHER)
def test_each_part_alone_is_refused_and_named(part: str) -> None:
    """The strings are equal throughout."""
    received, expected = identity(backend(**ANOTHER[part])), identity(backend())
    assert received.differing_parts(expected) == (part,)
    at = TOKENIZER_PARTS.index(part)
    sentence = (
        f"^the edge's tokenizer differs from the target's in its {part}: received the digest "
        f"{received.part_digests[at]:08x}; expected {expected.part_digests[at]:08x}, .*--tokenizer"
    )
    with pytest.raises(VocabularyMismatchError, match=sentence):
        check_vocabulary(received, expected)


def test_differences_that_no_text_shows_are_named_too() -> None:
    """A rule for characters that no sample has: the stages are compared as such, not by the samples alone."""
    rare = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("\u16a0", "f")])
    assert identity(backend(normalizer=rare)).differing_parts(identity(backend())) == ("normaliser",)
    rare_split = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\u16a0"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    other = identity(backend(pre_tokenizer=rare_split))
    assert other.differing_parts(identity(backend())) == ("pre-tokenizer",)


def test_scores_of_a_unigram_model_are_compared() -> None:
    """They decide between two ways to cut a text, and stand beside the strings."""
    strings = [("<unk>", 0.0), ("a", -1.0), ("b", -1.0), ("ab", -1.5)]
    first = Tokenizer(models.Unigram(strings, unk_id=0))
    second = Tokenizer(models.Unigram([*strings[:3], ("ab", -1.25)], unk_id=0))
    assert identity(second).differing_parts(identity(first)) == ("model",)


SPELLINGS: dict[str, dict[str, Any]] = {
    "a sequence of one": {"normalizer": normalizers.Sequence([normalizers.NFC()])},
    "a sequence in a sequence": {
        "normalizer": normalizers.Sequence([normalizers.Sequence([normalizers.NFC()])])
    },
    "offsets": {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)},
    "a post-processor for offsets": {
        "post_processor": processors.Sequence([processors.ByteLevel(trim_offsets=False), begins_with("!")])
    },
    "pairs of texts": {"post_processor": processors.TemplateProcessing("! $A", "$A ! $B", [("!", 0)])},
    "a decoder in a sequence": {"decoder": decoders.Sequence([decoders.ByteLevel()])},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_one_tokenizer_are_taken(spelling: str) -> None:
    """A false refusal would be as bad."""
    assert identity(backend(**SPELLINGS[spelling])) == identity(backend())


def test_a_tokenizer_saved_by_other_paths_is_taken(tmp_path: Path) -> None:
    """By transformers and by tokenizers, twice over, with reordered keys and without its configuration."""
    (tmp_path / "a").mkdir()
    save_tokenizer(tmp_path / "a")
    first = loaded(tmp_path / "a")
    first.save_pretrained(tmp_path / "b")
    (tmp_path / "c").mkdir()
    stages = json.loads((tmp_path / "b" / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "c" / "tokenizer.json").write_text(json.dumps(stages, sort_keys=True), encoding="utf-8")
    for other in (
        loaded(tmp_path / "b"),
        transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "c" / "tokenizer.json")),
        Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json")),
    ):
        assert identity(other) == identity(first)


def test_neither_truncation_nor_padding_counts_or_has_an_effect(tmp_path: Path) -> None:
    """A tokenizer.json may bring both; a prompt is encoded whole and bare."""
    save_tokenizer(tmp_path)
    plain = Vocabulary(loaded(tmp_path))
    stages = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    stages["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    stages["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_type_id": 0,
        "pad_id": VOCABULARY_SIZE - 1, "pad_token": END_OF_TEXT,
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(stages), encoding="utf-8")
    other = Vocabulary(loaded(tmp_path))
    assert other.identity == plain.identity
    assert other.encode("truncated?") == plain.encode("truncated?")
    assert len(other.encode("truncated?")) == len("truncated?")


def test_a_beginning_put_by_the_library_itself_is_seen(tmp_path: Path) -> None:
    """`add_bos_token` stands in tokenizer_config.json, not in tokenizer.json."""
    save_tokenizer(tmp_path)
    plain = loaded(tmp_path)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path, bos_token="A", add_bos_token=True)
    assert other("b")["input_ids"] != plain("b")["input_ids"]
    assert "post-processor" in identity(other).differing_parts(identity(plain))


def test_a_tokenizer_without_a_backend_is_compared_by_its_class_and_samples() -> None:
    """ByT5's is Python alone; another number of extra ids moves V, other end-of-text habits the samples."""
    first = transformers.ByT5Tokenizer()
    assert getattr(first, "backend_tokenizer", None) is None
    assert identity(transformers.ByT5Tokenizer()) == identity(first)

    class Backwards(transformers.ByT5Tokenizer):  # type: ignore[misc]
        """One that reads backwards, under the same class name."""

        def _tokenize(self, text: str) -> list[str]:
            return list(reversed(super()._tokenize(text)))

    Backwards.__name__ = "ByT5Tokenizer"
    assert identity(Backwards()).differing_parts(identity(first)) == ("ids of sample texts",)
    Backwards.__name__ = "Backwards"
    assert "model" in identity(Backwards()).differing_parts(identity(first))


def test_one_file_may_be_two_tokenizers(tmp_path: Path) -> None:
    """For some kinds of model the library sets a normaliser and a pre-tokenizer, whatever the file says."""
    llama, qwen = (loaded(Path(save_checkpoint(tmp_path / kind, kind))) for kind in ("Llama", "Qwen2"))
    files = [(tmp_path / kind / "tokenizer.json").read_bytes() for kind in ("Llama", "Qwen2")]
    assert files[0] == files[1]
    assert llama("i\u0308")["input_ids"] != qwen("i\u0308")["input_ids"]
    assert identity(llama).differing_parts(identity(qwen)) == ("normaliser", "pre-tokenizer")


async def test_a_draft_that_begins_texts_otherwise_is_refused_by_the_daemons(tmp_path: Path) -> None:
    """Equal strings, but the target's tokenizer puts a token first: the text would be another prompt's."""
    folders = [save_checkpoint(tmp_path / name, "Llama", seed=n) for n, name in enumerate(("t", "d"))]
    put_begin(folders[0])
    target, draft = (torch_device.load_on_device(folder) for folder in folders)
    assert target.vocabulary.encode("ab") == [BEGIN_ID, *draft.vocabulary.encode("ab")]
    async with loopback(
        target,
        draft,
        draft.vocabulary,
        target_vocabulary=target.vocabulary,  # type: ignore[arg-type]
    ) as pair:
        with pytest.raises(VocabularyMismatchError, match="in its post-processor: received") as caught:
            await generate(pair.client, make_request("ab", max_tokens=4))
        assert caught.value.status == "FAILED_PRECONDITION"
        assert pair.cloud.sessions == 0


def put_begin(folder: str) -> None:
    """Have the tokenizer in `folder` put a token before every text."""
    path = Path(folder) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    token = tokenizer.id_to_token(BEGIN_ID)
    tokenizer.post_processor = processors.TemplateProcessing(
        f"{token} $A", f"{token} $A $B", [(token, BEGIN_ID)]
    )
    tokenizer.save(str(path))
