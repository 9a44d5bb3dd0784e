#!/usr/bin/env bash
# Package: transformers==5.23.0 (with tokenizers==0.23.3)
#
# Expected: AutoTokenizer reads tokenizer.json, which says all of a tokenizer, and gives the ids that the
#   tokenizers library gives for it; all the more where tokenizer_config.json names PreTrainedTokenizerFast,
#   the class for a file as it is.
# Seen: that holds for a config.json whose model_type is llama, gpt2 or qwen3. With model_type qwen2 the class
#   named is passed over, and Qwen2Tokenizer keeps the file's vocabulary but has a normaliser (NFC) and a
#   pre-tokenizer (single digits) of its own in place of the file's: other ids, without a warning.
# Output:
#   tokenizers alone: 'i\u0308' 3 ids, '12' 1 id
#   llama  TokenizersBackend: 3 ids, 1 id, normaliser None
#   gpt2   TokenizersBackend: 3 ids, 1 id, normaliser None
#   qwen3  TokenizersBackend: 3 ids, 1 id, normaliser None
#   qwen2  Qwen2Tokenizer: 2 ids, 2 ids, normaliser NFC()
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "transformers==5.23.0" "tokenizers==0.23.3"
export HF_HUB_OFFLINE=1
"$folder/venv/bin/python" - <<'END'
import json
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

TEXTS = ("i\u0308", "12")
"""An i with a diaeresis of its own, which NFC makes one character; two digits, for which there is one token."""


def counted(number: int) -> str:
    """In words."""
    return f"{number} id" if number == 1 else f"{number} ids"


strings = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12"]
file = Tokenizer(models.BPE({token: index for index, token in enumerate(strings)}, [("1", "2")]))
file.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
file.decoder = decoders.ByteLevel()
expected = [file.encode(text).ids for text in TEXTS]
print(f"tokenizers alone: 'i\\u0308' {counted(len(expected[0]))}, '12' {counted(len(expected[1]))}")

as_in_file = {}
for kind in ("llama", "gpt2", "qwen3", "qwen2"):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file.save(str(folder / "tokenizer.json"))
        for part, content in (
            ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
            ("config.json", {"model_type": kind}),
        ):
            (folder / part).write_text(json.dumps(content))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    as_in_file[kind] = [one == other for one, other in zip(ids, expected, strict=True)]
    counts = ", ".join(counted(len(one)) for one in ids)
    print(f"{kind:6} {type(tokenizer).__name__}: {counts}, normaliser {tokenizer.backend_tokenizer.normalizer}")

same, other = [True, True], [False, False]
if as_in_file != {"llama": same, "gpt2": same, "qwen3": same, "qwen2": other}:
    sys.exit("This has changed: expected the file's ids of all but qwen2, and others of it for both texts.")
END
