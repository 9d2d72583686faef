"""Writes sentence.json and dense/: the vectors of sentence-transformers for the settings in a model's files.

    python sentence.py        needs torch, transformers and sentence-transformers
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent
MODEL = HERE / "tiny-bert-classifier"
TEXTS = ["boring", "The Movie was not so GREAT", "not so boring , but the movie was great " * 4]
TORCH = "torch.nn.modules"


def modules(*names, package="sentence_transformers.models"):
    """The content of modules.json. A name may be followed by a folder."""
    pairs = [name if isinstance(name, tuple) else (name, f"{place}_{name}") for place, name in enumerate(names)]
    pairs[0] = (pairs[0][0], "")
    return [{"idx": i, "name": str(i), "path": path, "type": f"{package}.{name}"} for i, (name, path) in enumerate(pairs)]


def dense(inputs, outputs, activation, **others):
    return {"in_features": inputs, "out_features": outputs, "bias": True, "activation_function": activation} | others


CASED = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False}
MEAN = {"1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}}
POOLED = {"modules.json": modules("Transformer", "Pooling")} | MEAN
TANH = {"2_Dense/config.json": dense(32, 16, f"{TORCH}.activation.Tanh")}
COPY = {"2_Dense/model.safetensors": "dense/32-16.safetensors"}

# A case has files with their content, keys that replace those of files of the model, and copies of weights.
CASES = {
    "no settings": {"files": POOLED},
    "a default prompt": {"files": POOLED | {"config_sentence_transformers.json": {
        "prompts": {"query": "the movie : ", "document": ""}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}}},
    "prompts without a default": {"files": POOLED | {"config_sentence_transformers.json": {
        "prompts": {"query": "the movie : "}, "default_prompt_name": None}}},
    "lower case": {"keys": {"tokenizer.json": {"normalizer": CASED}},
                   "files": POOLED | {"sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": True}}},
    "lower case in the file's older name": {"keys": {"tokenizer.json": {"normalizer": CASED}},
                   "files": POOLED | {"sentence_distilbert_config.json": {"max_seq_length": 9, "do_lower_case": True}}},
    "a length": {"files": POOLED | {"sentence_bert_config.json": {"max_seq_length": 5}}},
    "a length in the file's older name": {"files": POOLED | {"sentence_roberta_config.json": {"max_seq_length": 5}}},
    "the first of two files counts": {"files": POOLED | {
        "sentence_bert_config.json": {"max_seq_length": 7}, "sentence_roberta_config.json": {"max_seq_length": 5}}},
    "a length among the tokenizer's settings": {"files": POOLED | {
        "sentence_bert_config.json": {"max_seq_length": 20, "tokenizer_args": {"model_max_length": 6}}}},
    "a pooling in another folder": {"files": {
        "modules.json": modules("Transformer", ("Pooling", "2_Pooling")),
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_max_tokens": True},
        "2_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}}},
    "the classes of version 6": {"files": {"modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"}],
        "2_Normalize/config.json": {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"},
        "1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True},
        "sentence_bert_config.json": {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}}}},
    "the mode as a string": {"files": POOLED | {"1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": "max"}}},
    "the mode as a list": {"files": POOLED | {"1_Pooling/config.json": {"embedding_dimension": 32, "pooling_mode": ["cls"]}}},
    "the mode as a string and as booleans": {"files": POOLED | {"1_Pooling/config.json": {
        "embedding_dimension": 32, "pooling_mode": "cls", "pooling_mode_max_tokens": True}}},
    "no mode": {"files": POOLED | {"1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_cls_token": False}}},
    "a prompt outside the pooling without a prompt": {"files": POOLED | {"1_Pooling/config.json": {
        "embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": False}}},
    "normalized": {"files": POOLED | {"modules.json": modules("Transformer", "Pooling", "Normalize")}},
    "a number of dimensions": {"files": POOLED | {"modules.json": modules("Transformer", "Pooling", "Normalize"),
        "config_sentence_transformers.json": {"truncate_dim": 8}}},
    "a dense layer with Tanh": {"copy": COPY, "files": POOLED | TANH | {"modules.json": modules("Transformer", "Pooling", "Dense")}},
    "a dense layer without an activation": {"copy": COPY, "files": POOLED | {
        "modules.json": modules("Transformer", "Pooling", "Dense", "Normalize"),
        "2_Dense/config.json": dense(32, 16, f"{TORCH}.linear.Identity")}},
    "a dense layer without a bias": {"copy": {"2_Dense/model.safetensors": "dense/32-16-without-bias.safetensors"}, "files": POOLED | {
        "modules.json": modules("Transformer", "Pooling", "Dense"),
        "2_Dense/config.json": dense(32, 16, f"{TORCH}.activation.GELU", bias=False)}},
    "two dense layers with a scaling between": {
        "copy": COPY | {"4_Dense/model.safetensors": "dense/16-8.safetensors"},
        "files": POOLED | TANH | {"modules.json": modules("Transformer", "Pooling", "Dense", "Normalize", "Dense"),
                                  "4_Dense/config.json": dense(16, 8, f"{TORCH}.activation.ReLU")}},
}


def weights(inputs, outputs, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"linear.weight": torch.randn(outputs, inputs, generator=generator) / 4,
            "linear.bias": torch.randn(outputs, generator=generator) / 4}


def vectors(case):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "model"
        shutil.copytree(MODEL, folder)
        for name, content in case["files"].items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(content))
        for name, keys in case.get("keys", {}).items():
            content = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(content | keys))
        for name, source in case.get("copy", {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(HERE / source, folder / name)
        rows = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    return [[round(float(number), 6) for number in row] for row in rows]


def main():
    (HERE / "dense").mkdir(exist_ok=True)
    wide = weights(32, 16, 1)
    save_file(wide, HERE / "dense/32-16.safetensors")
    save_file({"linear.weight": wide["linear.weight"]}, HERE / "dense/32-16-without-bias.safetensors")
    save_file(weights(16, 8, 2), HERE / "dense/16-8.safetensors")
    cases = [{"name": name, "keys": {}, "copy": {}} | case | {"vectors": vectors(case)} for name, case in CASES.items()]
    lines = ",\n".join(" " + json.dumps(case) for case in cases)
    (HERE / "sentence.json").write_text(f'{{"texts": {json.dumps(TEXTS)}, "cases": [\n{lines}\n]}}\n')


main()
