"""What a model is asked at loading, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
from safetensors.torch import load_file, save_file

import torch_device
from model.checkpoints import FULL_ATTENTION, VOCABULARY_SIZE, make_config, save_checkpoint, save_tokenizer
from thinwire.common.errors import ConfigError, ModelLoadError, UncroppableCacheError, VocabularyMismatchError
from thinwire.common.language_model.kv_cache import check_croppable

UNCROPPABLE: dict[str, dict[str, Any]] = {
    "Mistral": {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 16},
    "Gemma2": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 16},
    "Mamba": {},
    "Qwen3Next": {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 4},
    "RecurrentGemma": {"num_attention_heads": 4, "num_hidden_layers": 3},
}


@pytest.mark.parametrize("kind", UNCROPPABLE)
def test_sliding_and_recurrent_layers_are_refused(kind: str) -> None:
    """The layer kind decides; the sentence names the layer and what was expected."""
    with pytest.raises(
        UncroppableCacheError, match=r"^layer \d of tiny keeps a \w+.*; expected full attention"
    ):
        check_croppable(make_config(kind, **UNCROPPABLE[kind]), "tiny")


def test_a_sliding_window_is_refused_before_any_weight_is_read(tmp_path: Path) -> None:
    """A configuration is enough, whatever the length of the window."""
    make_config("Mistral", sliding_window=4096).save_pretrained(tmp_path)
    with pytest.raises(UncroppableCacheError, match=r"layer 0 of .* DynamicSlidingWindowLayer"):
        torch_device.load_on_device(str(tmp_path))


def test_a_recurrent_model_whose_configuration_does_not_tell_is_refused(tmp_path: Path) -> None:
    """RWKV takes no KV cache, so nothing could be rolled back."""
    folder = save_checkpoint(tmp_path / "m", "Rwkv")
    with pytest.raises(UncroppableCacheError, match=r"RwkvForCausalLM.* recurrent state"):
        torch_device.load_on_device(folder)


def test_mistral_without_a_window_is_taken() -> None:
    """The name of a configuration decides nothing."""
    check_croppable(make_config("Mistral", sliding_window=None), "tiny")


@pytest.mark.parametrize("kind", FULL_ATTENTION)
def test_what_a_loaded_model_says_of_itself(kind: str, tmp_path: Path) -> None:
    """Base name, sizes, context and end-of-text ids."""
    model = torch_device.load_on_device(save_checkpoint(tmp_path / kind, kind))
    assert (model.name, model.dtype, model.device) == (kind, "float32", torch_device.name)
    assert model.vocabulary_size == VOCABULARY_SIZE
    assert model.context_length == 512
    assert model.eos_token_ids == (VOCABULARY_SIZE - 1,)
    assert model.warnings == ()


def test_end_of_text_ids_come_from_the_generation_config_as_a_list(tmp_path: Path) -> None:
    """The configuration's own id gives way."""
    model = torch_device.load_on_device(
        save_checkpoint(tmp_path / "m", "Llama", generation={"eos_token_id": [3, 256]})
    )
    assert model.eos_token_ids == (3, 256)


def test_other_generation_settings_are_ignored_with_a_warning_each(tmp_path: Path) -> None:
    """As Qwen2.5 names them."""
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
    model = torch_device.load_on_device(save_checkpoint(tmp_path / "m", "Llama", generation=settings))
    assert [sentence.split(" in its ")[0] for sentence in model.warnings] == [
        "m names repetition_penalty = 1.05",
        "m names temperature = 0.7",
        "m names top_k = 20",
        "m names top_p = 0.8",
    ]


@pytest.mark.parametrize("path_or_id", ["/no/such/folder", "./nothing", "", "a/b/c"])
def test_an_unknown_path_is_refused_at_once(path_or_id: str) -> None:
    """One line, with the value received and the value expected."""
    with pytest.raises(ModelLoadError) as caught:
        torch_device.load_on_device(path_or_id)
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"no causal model can be loaded from {path_or_id!r} (")
    assert "expected a local folder in Hugging Face format or a reachable hub id" in caught.value.message


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the hub's client is not left to its retries."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelLoadError, match="the hub cannot be reached and nothing is cached") as caught:
        torch_device.load_on_device("nobody/no-such-model")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("broken", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_folder_is_refused_in_one_line(broken: str, tmp_path: Path) -> None:
    """Whatever the library raises, it arrives as one error of ours."""
    folder = Path(save_checkpoint(tmp_path / "m", "Llama"))
    (folder / broken).write_bytes(b"{ not this")
    with pytest.raises(ModelLoadError) as caught:
        torch_device.load_on_device(str(folder))
    assert "\n" not in caught.value.message


def test_a_checkpoint_without_some_weights_is_refused(tmp_path: Path) -> None:
    """transformers would fill them with random numbers."""
    folder = Path(save_checkpoint(tmp_path / "m", "Llama"))
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelLoadError, match=r"1 weights are missing, the first is model\.layers\.1\.mlp\.up_proj"
    ):
        torch_device.load_on_device(str(folder))


def test_a_model_with_rows_for_less_than_half_of_the_ids_is_refused(tmp_path: Path) -> None:
    """That is another model's tokenizer; of half of the ids on, those without a row cannot come."""
    folder = save_checkpoint(tmp_path / "m", "Llama", vocab_size=128, eos_token_id=3)
    with pytest.raises(
        VocabularyMismatchError, match="m has 128 output rows but its tokenizer defines 257 ids"
    ):
        torch_device.load_on_device(folder)


@pytest.mark.parametrize(("field", "value"), [("dtype", "int8"), ("device", "abacus"), ("device", "meta")])
def test_an_unknown_dtype_or_device_is_refused(field: str, value: str, tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError, match=f"{field} is '{value}'; expected"):
        torch_device.load_on_device(str(tmp_path), **{field: value})  # type: ignore[arg-type]


def test_loading_reports_its_stages_and_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The callback is the only display."""
    folder = save_checkpoint(tmp_path / "m", "Llama")
    capfd.readouterr()
    stages: list[str] = []
    torch_device.load_on_device(folder, on_progress=stages.append)
    assert stages == [
        "configuration",
        "tokenizer",
        "weights",
        f"moving to {torch_device.name}",
        "trial",
        "layout",
    ]
    assert capfd.readouterr() == ("", "")


def test_equal_vocabularies_with_different_padding_have_one_identity(tmp_path: Path) -> None:
    """Rows beyond V are nobody's tokens."""
    first = torch_device.load_on_device(save_checkpoint(tmp_path / "a", "Llama"))
    second = torch_device.load_on_device(save_checkpoint(tmp_path / "b", "GPT2", vocab_size=264))
    assert first.model_rows != second.model_rows
    assert first.vocabulary.identity == second.vocabulary.identity


def test_one_different_token_changes_the_identity(tmp_path: Path) -> None:
    """So does an exchange of two ids; V stays."""
    first = torch_device.load_on_device(save_checkpoint(tmp_path / "a", "Llama")).vocabulary
    for name, replaced in {"b": {"Z": "ZZ"}, "c": {"A": "B", "B": "A"}}.items():
        folder = save_checkpoint(tmp_path / name, "Llama")
        save_tokenizer(Path(folder), replaced=replaced)
        other = torch_device.load_on_device(folder).vocabulary
        assert other.identity.size == first.identity.size == VOCABULARY_SIZE
        assert other.identity.sha256 != first.identity.sha256


def test_added_tokens_belong_to_the_vocabulary(tmp_path: Path) -> None:
    """V counts to the highest id, added tokens included, and the digest covers them."""
    folder = save_checkpoint(tmp_path / "m", "Qwen2")
    before = torch_device.load_on_device(folder).vocabulary.identity
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|extra|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    after = torch_device.load_on_device(folder).vocabulary.identity
    assert after.size == before.size + 1
    assert after.sha256 != before.sha256


@pytest.mark.parametrize("text", ["def f(x):\n    return  x , y .\n", "naïve – 日本 🙂", " 'tis n't "])
def test_text_survives_encoding_and_decoding(text: str, tmp_path: Path) -> None:
    """Spaces before punctuation included; special tokens are left out."""
    vocabulary = torch_device.load_on_device(save_checkpoint(tmp_path / "m", "Llama")).vocabulary
    ids = vocabulary.encode(text)
    assert vocabulary.decode([*ids, VOCABULARY_SIZE - 1]) == text
    assert json.dumps(ids)  # plain integers
