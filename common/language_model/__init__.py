"""
The one door to torch and transformers: any Hugging Face causal model as a `common.causal_model.CausalModel`.

`model` loads and scores, `vocabulary` is the tokenizer's half, `cache_kinds` decides which caches can be rolled back.
"""

from common.language_model.model import DTYPES, LanguageModel, load_language_model, set_threads
from common.language_model.vocabulary import Vocabulary

__all__ = ["DTYPES", "LanguageModel", "Vocabulary", "load_language_model", "set_threads"]
