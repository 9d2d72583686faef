"""all-MiniLM-L6-v2 on ONNX Runtime, which bench/cpu_peers.py measures alone, and bench/loop_peer.py in a Kafka consumer."""

from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MOST_TOKENS = 256


def embedder(model, onnx, threads):
    """Returns a function from a list of texts to their embeddings: the mean over the tokens of each text, scaled to length 1."""
    tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def embed(texts):
        encoded = tokenizer.encode_batch(texts)
        longest = max(len(text.ids) for text in encoded)
        ids = np.zeros((len(texts), longest), np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(encoded):
            ids[row, : len(text.ids)] = text.ids
            mask[row, : len(text.ids)] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (hidden,) = session.run(None, feed)
        weights = mask[:, :, None].astype(np.float32)
        vectors = (hidden * weights).sum(1) / weights.sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return embed
