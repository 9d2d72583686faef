"""Writes options.json: the results of transformers for the options of a text model.

    python options.py        needs torch and transformers
"""

import json
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

FOLDER = Path(__file__).parent / "tiny-bert-classifier"
TEXTS = ["boring", "the movie was not so great", "not so boring , but the movie was great " * 4]
EMBEDDINGS = [
    {"pooling": pooling, "normalize": normalize, "dimensions": dimensions, "prompt": prompt}
    for pooling, normalize, dimensions, prompt in [
        ("mean", False, None, ""),
        ("cls", False, None, ""),
        ("cls", True, None, ""),
        ("max", False, None, ""),
        ("max", True, 8, ""),
        ("mean", True, 5, "the movie : "),
    ]
]


def rounded(tensor):
    return [round(float(number), 7) for number in tensor]


@torch.inference_mode()
def main():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    encoder = AutoModel.from_pretrained(FOLDER, add_pooling_layer=False).eval()
    classifier = AutoModelForSequenceClassification.from_pretrained(FOLDER).eval()

    def embed(text, pooling, normalize, dimensions, prompt):
        hidden = encoder(**tokenizer(prompt + text, return_tensors="pt")).last_hidden_state[0]
        vector = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values}[pooling][:dimensions]
        return torch.nn.functional.normalize(vector, dim=0) if normalize else vector

    embeddings = [
        {"options": options, "vectors": [rounded(embed(text, **options)) for text in TEXTS]} for options in EMBEDDINGS
    ]
    logits = [classifier(**tokenizer(text, return_tensors="pt")).logits[0] for text in TEXTS]
    names = classifier.config.id2label
    scores = {"softmax": lambda row: row.softmax(0), "sigmoid": torch.sigmoid, "none": lambda row: row}
    labels = {
        name: [{names[place]: score for place, score in enumerate(rounded(score(row)))} for row in logits]
        for name, score in scores.items()
    }
    written = {"texts": TEXTS, "embeddings": embeddings, "labels": labels}
    (FOLDER.parent / "options.json").write_text(json.dumps(written, indent=1) + "\n")


main()
