"""
The one door to torch and transformers: any Hugging Face causal model as a `common.causal_model.CausalModel`.

`loading` loads and refuses, `checkpoint_faults` says why, `trial` holds a model against its own plain pass
before it serves, `model` scores, `vocabulary` is the tokenizer's half, `kv_cache` and `kv_pool` keep what was
computed, `weight_layout` is how linear layers keep their weights.
"""

import os

# Threads that wait for each other may spin for microseconds only. Where another process wants the same cores
# (the other daemon of a demo), a long spin was seen to cost 40 times the pass itself; without any spin a pass
# of many small layers takes a third longer, since every one of them wakes a thread (bench/LOG.md).
# Read as torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from thinwire.common.language_model.loading import DTYPES, load_language_model, load_vocabulary
from thinwire.common.language_model.model import LanguageModel, set_threads
from thinwire.common.language_model.vocabulary import Vocabulary

__all__ = ["DTYPES", "LanguageModel", "Vocabulary", "load_language_model", "load_vocabulary", "set_threads"]
