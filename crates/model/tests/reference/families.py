"""Writes tiny random classifiers of the RoBERTa family with a Unigram tokenizer, and the results of transformers.

    python families.py        needs torch and transformers
"""

import json
import shutil
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CamembertConfig,
    CamembertForSequenceClassification,
    CamembertTokenizer,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaTokenizer,
)

HERE = Path(__file__).parent
TEXTS = [
    "this movie was wonderful and moving",
    "boring",
    "un film ennuyeux, et pire encore ; je ne le regarderais pas",
    "",
    "Streams of REQUESTS arrive!!",
    "éclair 漢字 🎬 unknown words everywhere zzzqqq",
    "the cast is great but the script is not " * 7,
]
# The special tokens in the order of the published vocabularies.
FAMILIES = {
    "xlm-roberta": (
        ["<s>", "<pad>", "</s>", "<unk>"],
        {"bos_token_id": 0, "eos_token_id": 2},
        (XLMRobertaConfig, XLMRobertaForSequenceClassification, XLMRobertaTokenizer),
    ),
    "camembert": (
        ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"],
        {"bos_token_id": 5, "eos_token_id": 6},
        (CamembertConfig, CamembertForSequenceClassification, CamembertTokenizer),
    ),
}


def pieces(special):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=160, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([text for text in TEXTS for _ in range(3)], trainer)
    learnt = json.loads(tokenizer.to_str())["model"]["vocab"]
    learnt = [(piece, score) for piece, score in learnt if piece != "<unk>"]
    return [(token, 0.0) for token in special] + learnt + [("<mask>", 0.0)]


@torch.inference_mode()
def write(family):
    special, ids, (config_class, model_class, tokenizer_class) = FAMILIES[family]
    folder = HERE / f"tiny-{family}-classifier"
    shutil.rmtree(folder, ignore_errors=True)
    vocab = pieces(special)
    tokenizer = tokenizer_class(vocab=vocab, model_max_length=60)
    torch.manual_seed(7)
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=62, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5,
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1}, **ids,
    )
    model = model_class(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # The published models have no `tokenizer.json` of this version's class only; it must be enough by itself.
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    items = []
    for text in TEXTS:
        encoded = tokenizer(text, return_tensors="pt", truncation=True)
        logits = model(**encoded).logits[0]
        items.append({
            "text": text,
            "input_ids": encoded["input_ids"][0].tolist(),
            "probabilities": logits.softmax(0).tolist(),
            "label": model.config.id2label[int(logits.argmax())],
        })
    expected = {"architecture": config.architectures, "torch": torch.__version__, "items": items}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


for family in FAMILIES:
    write(family)
