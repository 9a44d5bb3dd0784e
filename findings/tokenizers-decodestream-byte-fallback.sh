#!/usr/bin/env bash
# Package: tokenizers==0.23.3
#
# Expected: DecodeStream.step() takes any ids that decode() takes. Its documentation says that byte-fallback
#   tokens are handled gracefully.
# Seen: with a byte-fallback decoder, a byte token that is no UTF-8 behind a whole character of byte tokens makes
#   the next step raise, and every step after it: the stream never recovers, and the rest of the text cannot be
#   had from it. decode() turns the run of byte tokens into U+FFFD and goes on.
# Output:
#   decode(): 'b??bbb' with U+FFFD for each ?
#   steps: ['b', 'a', None, raised, raised, raised]
#   the last says: Invalid prefix encountered while decoding stream. Token ID: 256, Expected prefix: 'a', Actual string: '??bbb'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "tokenizers==0.23.3"
"$folder/venv/bin/python" - <<'END'
import sys

from tokenizers import Tokenizer, decoders, models

strings = [*(f"<0x{byte:02X}>" for byte in range(256)), "b", "<unk>"]
vocabulary = {string: index for index, string in enumerate(strings)}
tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
letter = vocabulary["b"]
ids = [letter, 0x61, 0xFF, letter, letter, letter]  # a byte token's id is its byte; 0x61 is the letter a

stream = decoders.DecodeStream()
steps, said = [], ""
for token_id in ids:
    try:
        steps.append(repr(stream.step(tokenizer, token_id)))
    except Exception as error:  # the class itself is raised
        steps.append("raised")
        said = str(error)
decoded = tokenizer.decode(ids)
print(f"decode(): {decoded!r}".replace("\ufffd", "?"), "with U+FFFD for each ?")
print(f"steps: [{', '.join(steps)}]")
print("the last says:", said.replace("\ufffd", "?"))
if decoded != "b\ufffd\ufffdbbb" or steps != ["'b'", "'a'", "None", "raised", "raised", "raised"]:
    sys.exit("This has changed: expected decode() to go on, and every step behind the broken run to raise.")
END
