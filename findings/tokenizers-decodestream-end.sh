#!/usr/bin/env bash
# Package: tokenizers==0.23.3
#
# Expected: the pieces of a DecodeStream, joined, are what decode() makes of the same ids; or there is a way to
#   ask for the rest once no more ids come.
# Seen: a text whose last character is U+FFFD itself, which decode() gives back whole, loses that character, and
#   one cut within a character loses the U+FFFD that decode() shows for it. `step` is the only method.
# Output:
#   the text 'ab\ufffd': decode() 'ab\ufffd', DecodeStream 'ab'
#   'abé' less a byte: decode() 'ab\ufffd', DecodeStream 'ab'
#   methods: ['step']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "tokenizers==0.23.3"
"$folder/venv/bin/python" - <<'END'
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(alphabet)}, []))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()


def streamed(ids: list[int]) -> str:
    """All pieces, joined."""
    stream = decoders.DecodeStream()
    return "".join(stream.step(tokenizer, token_id) or "" for token_id in ids)


whole = tokenizer.encode("ab\ufffd").ids
cut = tokenizer.encode("abé").ids[:-1]
methods = [name for name in dir(decoders.DecodeStream) if not name.startswith("_")]
escaped = "\\ufffd"
for name, ids in ((f"the text 'ab{escaped}'", whole), ("'abé' less a byte", cut)):
    decoded = tokenizer.decode(ids).replace("\ufffd", escaped)
    print(f"{name}: decode() '{decoded}', DecodeStream {streamed(ids)!r}")
print(f"methods: {methods}")
if [tokenizer.decode(ids) for ids in (whole, cut)] != ["ab\ufffd"] * 2:
    sys.exit("This has changed: expected 'ab' and U+FFFD of decode().")
if [streamed(ids) for ids in (whole, cut)] != ["ab"] * 2 or methods != ["step"]:
    sys.exit("This has changed: expected the end to be withheld, and `step` to be the only method.")
END
