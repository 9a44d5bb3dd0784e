#!/usr/bin/env bash
# Package: tokenizers==0.23.3
#
# Expected: DecodeStream(ids=...) takes the ids of a text that has been shown, and its steps give out what comes
#   after that text, wherever the ids were cut.
# Seen: where the ids end within a character of a byte-level tokenizer, as those of an emoji that takes several
#   tokens may, the step that completes the character gives out the whole text again. Cut between two
#   characters, the same text continues as it should.
# Output:
#   cut between characters: shown 'Hello ', then ['🦊', '!']
#   cut within a character: shown 'Hello \ufffd', then ['Hello 🦊', '!']
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
ids = tokenizer.encode("Hello 🦊!").ids  # one a byte; the fox takes four


def pieces(cut: int) -> list[str]:
    """What the steps give out behind the first `cut` ids."""
    stream = decoders.DecodeStream(ids=ids[:cut])
    steps = [stream.step(tokenizer, token_id) for token_id in ids[cut:]]
    return [piece for piece in steps if piece is not None]


between, within = pieces(6), pieces(8)
for name, cut, steps in (("between characters", 6, between), ("within a character", 8, within)):
    shown = tokenizer.decode(ids[:cut]).replace("\ufffd", "\\ufffd")
    print(f"cut {name}: shown '{shown}', then {steps}")
if between != ["🦊", "!"] or within != ["Hello 🦊", "!"]:
    sys.exit("This has changed: expected the text before the cut again, in the second case alone.")
END
