#!/usr/bin/env bash
# Package: autodraft-sd==1.1.1 (user-cloud tree speculation, JSON over TCP)
#
# Expected: a package whose metadata asks for no GPU, and whose runtime has a setting for the device, runs on a
#   CPU where the device is "cpu".
# Seen: the server starts. The user's process, with its defaults, loads its draft model to cuda:0 and fails. With
#   AUTODRAFT_DEVICE_MAP=cpu (it stands in the source alone) the model is loaded, and the profile that is made
#   before the first text moves its input to "cuda", which four places of evaluation/eval_autodraft_draft.py have
#   as a constant. So there is no text without CUDA.
# Output:
#   by default: RuntimeError: Failed to load draft model after quantization fallback. attempted=none; failures=none:Torch not compiled with CUDA enabled. Try a smaller draft model or start with higher quantization.
#   AUTODRAFT_DEVICE_MAP=cpu: AssertionError: Torch not compiled with CUDA enabled, at input_ids_t = torch.as_tensor(input_ids).to("cuda")
#   in the source: 4 times .to("cuda")
set -euo pipefail
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "autodraft-sd==1.1.1" "torch==2.13.0"
cd "$folder"
"$folder/venv/bin/python" - <<'END'
# Two small Llama models of fresh weights with one tokenizer of bytes.
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

letters = sorted(pre_tokenizers.ByteLevel.alphabet())
raw = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(["<eos>", *letters])}, merges=[]))
raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", pad_token="<eos>")
for name in ("target", "draft"):
    config = LlamaConfig(
        vocab_size=257, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(name)
    tokenizer.save_pretrained(name)
END
export HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/python" -c "from autodraft import serve_target; serve_target(host='127.0.0.1', port=$port)" \
  >server.log 2>&1 &
server=$!
cat >user.py <<END
import time, socket
from autodraft import Autodraft

for _ in range(60):
    try:
        socket.create_connection(("127.0.0.1", $port), timeout=1).close()
        break
    except OSError:
        time.sleep(1)
engine = Autodraft(
    draft_model="$folder/draft", target_model="$folder/target", draft_quantization="none",
    target_quantization="none", target_host="127.0.0.1", target_port=$port,
)
print(engine.run(input_text="def add(a, b):", cs="tps"))
END
text=no
timeout 300 "$folder/venv/bin/python" user.py >default.log 2>&1 && text=yes
AUTODRAFT_DEVICE_MAP=cpu timeout 300 "$folder/venv/bin/python" user.py >cpu.log 2>&1 && text=yes
echo "by default: $(tail -n 1 default.log)"
echo "AUTODRAFT_DEVICE_MAP=cpu: $(tail -n 1 cpu.log), at$(grep -F '.to("cuda")' cpu.log | tr -s ' ' || true)"
source=$("$folder/venv/bin/python" -c 'import importlib.util as u; print(u.find_spec("evaluation").submodule_search_locations[0])')
echo "in the source: $(grep -cF '.to("cuda")' "$source/eval_autodraft_draft.py") times .to(\"cuda\")"
if [ "$text" = yes ] || ! grep -qF '.to("cuda")' cpu.log; then
  echo "This has changed: expected both to fail for want of CUDA." >&2
  exit 1
fi
