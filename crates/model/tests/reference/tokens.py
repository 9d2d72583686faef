"""Writes tokens.json: the tokens of transformers for the settings in tokenizer_config.json.

    python tokens.py        needs transformers
"""

import json
import shutil
import tempfile
from pathlib import Path

from transformers import AutoTokenizer

HERE = Path(__file__).parent
TEXTS = ["The Movie was Not so great", "café BORING <mask> [MASK]", "good  movie 中文"]
BERT = ["TokenizersBackend", "BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer"]
ROBERTA = ["TokenizersBackend", "RobertaTokenizer", "RobertaTokenizerFast"]
SETTINGS = {
    "tiny-bert-classifier": (BERT, [
        {"do_lower_case": False}, {"do_lower_case": True}, {"strip_accents": False}, {"strip_accents": None},
        {"tokenize_chinese_chars": False}, {"split_special_tokens": True}, {"truncation_side": "left", "model_max_length": 5},
        {"model_max_length": 5}, {"max_len": 5, "model_max_length": None}, {"padding_side": "left"},
        {"add_prefix_space": True}, {"additional_special_tokens": ["movie"]}, {"extra_special_tokens": ["movie"]},
        {"model_input_names": ["input_ids"]}, {"never_split": ["movie"]}, {"clean_up_tokenization_spaces": True},
    ]),
    "tiny-roberta-classifier": (ROBERTA, [
        {"add_prefix_space": True}, {"add_prefix_space": False}, {"trim_offsets": False}, {"do_lower_case": True},
        {"split_special_tokens": True}, {"truncation_side": "left"},
    ]),
    "tiny-xlm-roberta-classifier": (["TokenizersBackend", "XLMRobertaTokenizer"], [
        {"add_prefix_space": False}, {"add_prefix_space": True}, {"do_lower_case": False},
    ]),
    "tiny-camembert-classifier": (["TokenizersBackend", "CamembertTokenizer"], [
        {"add_prefix_space": False}, {"additional_special_tokens": ["<s>NOTUSED"]},
    ]),
}


def tokens(model, settings):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "model"
        shutil.copytree(HERE / model, folder)
        path = folder / "tokenizer_config.json"
        # None stands for a missing key.
        settings = json.loads(path.read_text()) | settings
        path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return [tokenizer(text, truncation=True)["input_ids"] for text in TEXTS]


def main():
    cases = []
    for model, (classes, changes) in SETTINGS.items():
        for name in classes:
            for change in changes:
                settings = {"tokenizer_class": name} | change
                cases.append({"model": model, "settings": settings, "ids": tokens(model, settings)})
    lines = ",\n".join(" " + json.dumps(case) for case in cases)
    (HERE / "tokens.json").write_text(f'{{"texts": {json.dumps(TEXTS)}, "cases": [\n{lines}\n]}}\n')


main()
