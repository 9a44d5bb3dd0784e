"""
The one door to torch and transformers: any Hugging Face causal model as a `common.causal_model.CausalModel`.

`loading` loads and refuses, `model` scores, `vocabulary` is the tokenizer's half, `cache_kinds` decides which
caches can be rolled back, `growing_cache` is the cache's layer.
"""

import os

# Threads that wait for each other must not spin: where another process wants the same cores (the other
# daemon of a demo), a spinning wait was seen to cost 40 times the pass itself. Read as torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from common.language_model.loading import DTYPES, load_language_model
from common.language_model.model import LanguageModel, set_threads
from common.language_model.vocabulary import Vocabulary

__all__ = ["DTYPES", "LanguageModel", "Vocabulary", "load_language_model", "set_threads"]
