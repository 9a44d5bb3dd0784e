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
pair=$(cd "$(dirname "$0")/../demo-pair/thinwire_demo_pair" && pwd)
folder=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --no-compile "autodraft-sd==1.1.1" "torch==2.13.0"
cd "$folder"
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
    draft_model="$pair/draft", target_model="$pair/target", draft_quantization="none",
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
