"""Stream one text from an edge: python examples/client.py "def is_prime(n):" """

import os
import sys

import thinwire

EDGE = os.environ.get("THINWIRE_EDGE", "127.0.0.1:7072")
PROMPT = " ".join(sys.argv[1:]) or "def is_prime(n):"

try:
    with thinwire.Client(EDGE) as client:
        generation = client.generate(PROMPT, scheme="c-sqs", max_tokens=64, seed=1)
        for piece in generation:
            print(piece, end="", flush=True)
except thinwire.ThinwireError as error:
    sys.exit(f"{error.reason}: {error}")

took = generation.statistics
print(f"\n\n{took.output_tokens} tokens in {took.rounds} rounds, {took.uplink_message_bytes} bytes up")
