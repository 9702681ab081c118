"""Judges prompts, tokens and text states by ftfy, tokenizers and transformers: umt5_oracle.py UMT5_PROBE.

The vocabulary is trained here, by SentencePiece's own trainer on this project's pages; weights are random.

Bounds: tokens and cleaned prompts are equal. States in fp32 lie within 1e-5 of the norm of each caption's states from transformers'
in fp64 (some tens of roundings of 6e-8 on the way, each spread over the sum it enters). Computed in bf16 they may be off by as much
as transformers' own bf16 model is.
"""

import functools
import html
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

import ftfy
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PROMPTS = [
    "a red circle moves to the left on a blue background",
    "", " ", "\n\t\r ", "\u3000\u00a0", "x",
    "A cat,  sitting\ton a\r\n\r\nmat.  ",
    "Crème brûlée à la façade, Ångström, Ελλάδα, Москва, İstanbul, straße, ﬁne",
    "e\u0301\u0327\u0323 combining marks, in odd order: q\u0307\u0323 ﬁ\u0301 ½\u0301 a\u0335\u0301",
    "红色方块在蓝色背景上向左移动。日本語のテキスト、カタカナ。한국어 문장입니다. 각\u11a8",
    "emoji 🙂👍🏽👩‍👩‍👧 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿 and text\u200d\u200bjoined\ufeff",
    "control\x01 char\x07acters\x1b, \u0085 \u2028 \u2029 and \ufffd, soft\u00adhyphen",
    "don't—stop... (really?!) [not] {this} a/b\\c a_b a-b @x #y 100% $5 €6 ^~`|",
    "literal </s> and <pad> and <unk>, <extra_id_0><extra_id_7> <extra_id_299> <extra_id_300> <s> <0x41>",
    "＜/s＞ ＜extra_id_3＞ written wide; ▁ and ▁▁word a▁b  ▁x",
    " ".join(f"word{i}" for i in range(600)),
    "aaaaaaaaaaaaaaaaaaaaaaaa =============== nnnnnnnnnnnnnnn 8585858585858585 TryTryTryTryTry ababababab",
    "नमस्ते दुनिया สวัสดีชาวโลก مرحبا بالعالم שָׁלוֹם \u202bمرحبا\u202c",
    "ａｂｃ ＦＵＬＬ ｗｉｄｔｈ ﾊﾝｶｸ ① ½ ™ ℵ ﷺ",
    "0123456789 3.14159 1,000,000 v2.0-beta+build.7",
]
# Only for cleaning: what HTML and word processors put into captions.
UNCLEAN = [
    "&lt;b&gt;fish &amp;amp; chips&lt;/b&gt; &eacute;t&eacute &notit; &unknown; &#x41;&#66;&#128;&#0;&#xD800;&#11;&#1114112; & &; &#; &#x;",
    "<p>&ldquo;kept&rdquo; &amp;ldquo;</p>", "&ldquo;straight&rdquo; it&rsquo;s", "“curly” ‘quotes’ and ʼthis ‚not„ these",
    "&NotEqualTilde;&acE;&fjlig;&CounterClockwiseContourIntegral;&copy2024&ampere",
    "a\x1cb\x1dc\x1ed\x1fe \x85 f", "tabs\t\tand\nlines\r\n", "\ufeffbyte order mark", "&nbsp;&nbsp;spaced&nbsp;out&emsp;",
    "&" + "a" * 40 + ";", "&lt" + "x" * 30 + ";",
]


def probe(program, *arguments, inputs, suffix=".json", last=()):
    with tempfile.TemporaryDirectory() as folder:
        source, result = pathlib.Path(folder) / "in.json", pathlib.Path(folder) / f"out{suffix}"
        source.write_text(json.dumps(inputs))
        subprocess.run([program, *map(str, arguments), source, result, *map(str, last)], check=True)
        return load_file(result) if suffix == ".safetensors" else json.loads(result.read_text())


def prompt_clean(text):
    """Of diffusers' pipeline_wan.py, where ftfy is installed."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


def train_vocabulary(folder, byte_fallback):
    """UMT5's kind of model: unigram, nmt_nfkc, <pad> </s> <unk> first."""
    texts = [*PROMPTS[7:10], *PROMPTS[17:19]] * 5
    for path in sorted([*PROJECT.glob("docs/*.md"), PROJECT / "README.md", *PROJECT.glob("src/*/*.cpp")]):
        texts += [line for line in path.read_text().splitlines() if line.strip()]
    lines = folder / "lines.txt"
    lines.write_text("\n".join(text.replace("\n", " ") for text in texts))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(folder / "spiece"), model_type="unigram", vocab_size=3000, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.9995, byte_fallback=byte_fallback,
        normalization_rule_name="nmt_nfkc", minloglevel=2, num_threads=2)
    lines.unlink()
    (folder / "spiece.vocab").unlink()
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 300, "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return T5Tokenizer.from_pretrained(folder)


def many_texts(pieces):
    """Every character, marks in every order, and words with many ways to cut them that are equally probable."""
    ranges = [range(0xD800), range(0xF900, 0x20000), range(0xE0000, 0xE0200)]
    every = [f"a{chr(c)}b {chr(c)}" for part in ranges for c in part]
    draw = random.Random(1)
    marks = "".join(map(chr, range(0x300, 0x345))) + "abceioux ﬁÅ①½ｱﾞ가ᄀ각"
    texts = ["".join(draw.choices(marks, k=8)) for _ in range(20000)]
    for _ in range(20000):
        word = draw.choice([draw.choice(pieces) * draw.randint(2, 9), "".join(draw.choices(pieces, k=3)),
                            draw.choice("aenstx0189-=_.*") * draw.randint(2, 40)])
        texts.append(draw.choice(pieces) + word.replace("▁", "") + " " + word)
    return every + texts


def check_clean(program):
    texts = PROMPTS + UNCLEAN
    expected = [prompt_clean(text) for text in texts]
    ours = probe(program, "clean", inputs=texts)
    # What ftfy respells, the tokenizer's normal form (NFKC) respells too.
    nfkc = functools.partial(__import__("unicodedata").normalize, "NFKC")
    wrong = [(text, a, b) for text, a, b in zip(texts, expected, ours, strict=True) if nfkc(a) != nfkc(b)]
    for text, a, b in wrong:
        print(f"  FAILED {text!a}\n    expected {a!a}\n    found    {b!a}")
    assert not wrong, f"{len(wrong)} of {len(texts)} prompts are cleaned otherwise"
    print(f"cleaned prompts: {len(texts)} equal")


def check_tokens(program, folder, tokenizer, name):
    texts = PROMPTS + many_texts([piece for piece, _ in tokenizer._vocab_scores if not piece.startswith("<")])
    limit = 64
    expected = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
    saved = folder / "saved"
    tokenizer.save_pretrained(saved)
    for path in (folder / "spiece.model", saved / "tokenizer.json"):
        ours = probe(program, "tokens", path, inputs=texts, last=[limit])
        wrong = [(text, a, b) for text, a, b in zip(texts, expected, ours, strict=True) if a != b]
        for text, a, b in wrong[:5]:
            print(f"  FAILED {text!a}\n    {tokenizer.convert_ids_to_tokens(a)!a}\n    {tokenizer.convert_ids_to_tokens(b)!a}")
        assert not wrong, f"{path.name}: {len(wrong)} of {len(texts)} texts are cut otherwise"
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    differs = sum((a + [1])[:limit] != b for a, b in zip(library.encode(texts), expected) if len(b) < limit)
    print(f"tokens, {name}: {len(texts)} texts equal from spiece.model and tokenizer.json; libsentencepiece cuts {differs} otherwise")


def random_model(seed, **changes):
    torch.manual_seed(seed)
    sizes = dict(vocab_size=3400, d_model=48, d_kv=8, d_ff=80, num_layers=3, num_heads=5,
                 relative_attention_num_buckets=32, relative_attention_max_distance=128)
    model = UMT5EncoderModel(UMT5Config(**{**sizes, **changes})).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif "relative" in name:
                parameter.copy_(torch.randn_like(parameter))
            elif parameter.dim() == 2 and "shared" not in name:
                parameter.copy_(torch.randn_like(parameter) * 1.5 / parameter.shape[1] ** 0.5)
            else:
                parameter.copy_(torch.randn_like(parameter))
    return model


def original_names(state):
    """transformers' names to those of Wan's t5.py."""
    rules = [("encoder.block.", "blocks."), (".layer.0.SelfAttention.relative_attention_bias.", ".pos_embedding.embedding."),
             (".layer.0.SelfAttention.", ".attn."), (".layer.0.layer_norm.", ".norm1."), (".layer.1.layer_norm.", ".norm2."),
             (".layer.1.DenseReluDense.wi_0.", ".ffn.gate.0."), (".layer.1.DenseReluDense.wi_1.", ".ffn.fc1."),
             (".layer.1.DenseReluDense.wo.", ".ffn.fc2."), ("encoder.final_layer_norm.", "norm."), ("shared.", "token_embedding.")]
    return {functools.reduce(lambda name, rule: name.replace(*rule), rules, name): value for name, value in state.items()}


def states_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).last_hidden_state[0].double()


def judge_states(name, ours, exact, bounds):
    worst = 0.0
    for i, (reference, bound) in enumerate(zip(exact, bounds, strict=True)):
        found = ours[f"states.{i}"].double()
        assert found.shape == reference.shape, (found.shape, reference.shape)
        error = (found - reference).norm().item()
        assert error <= bound, f"{name}, caption {i}: error {error:.2e}, bound {bound:.2e}"
        worst = max(worst, error / reference.norm().item())
    print(f"states, {name}: worst error {worst:.1e} of the norm")


def check_network(program, name, model, stored):
    """One model in all layouts; `stored` is the type in the files."""
    model = model.to(stored)
    exact_model = UMT5EncoderModel(model.config).double().eval()
    exact_model.load_state_dict({key: value.double() for key, value in model.state_dict().items()})
    draw = random.Random(3)
    tokens = [[draw.randrange(model.config.vocab_size) for _ in range(n - 1)] + [1] for n in (1, 2, 17, 130, 300, 512)]
    exact = [states_of(exact_model, each) for each in tokens]
    # 1e-5 of the norm, or where these random weights are worse conditioned, twice the error of transformers' own fp32.
    plain = UMT5EncoderModel(model.config).float().eval()
    plain.load_state_dict({key: value.float() for key, value in model.state_dict().items()})
    fp32 = [max(1e-5 * each.norm().item(), 2 * (states_of(plain, t).double() - each).norm().item())
            for t, each in zip(tokens, exact)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "sharded", max_shard_size="100KB")
        assert list((folder / "sharded").glob("*.index.json")), "one file is not sharded"
        model.save_pretrained(folder / "whole")
        state = {key: value.contiguous() for key, value in model.state_dict().items() if key != "encoder.embed_tokens.weight"}
        save_file(state, folder / "transformers.safetensors")
        save_file(original_names(state), folder / "original.safetensors")
        # A single file has no config.json: the greatest distance is the published one then.
        single = ("transformers.safetensors", "original.safetensors") if model.config.relative_attention_max_distance == 128 else ()
        for layout in ("sharded", "whole", *single):
            ours = probe(program, "network", folder / layout, "mapped", inputs=tokens, suffix=".safetensors")
            judge_states(f"{name}, {layout}", ours, exact, fp32)
        ours = probe(program, "network", folder / "whole", "fp32", inputs=tokens, suffix=".safetensors")
        judge_states(f"{name}, held in fp32", ours, exact, fp32)
        half = model.to(torch.bfloat16)
        bounds = [2 * (states_of(half, each) - reference).norm().item() for each, reference in zip(tokens, exact)]
        ours = probe(program, "network", folder / "whole", "bf16", inputs=tokens, suffix=".safetensors")
        judge_states(f"{name}, held in bf16", ours, exact, bounds)


def check_pipeline(program, tokenizer, vocabulary_folder):
    """Prompts to padded states, as WanPipeline's _get_t5_prompt_embeds does it."""
    model = random_model(5)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "text_encoder")
        shutil.copytree(vocabulary_folder, folder / "tokenizer")
        # ftfy respells wide letters and ligatures before the tokenizer looks for </s> and marks; ours leaves that to its normal form.
        prompts = [p for p in PROMPTS if "in odd order" not in p and "written wide" not in p]
        assert len(prompts) >= len(PROMPTS) - 2
        for length in (1, 64, 512):
            ours = probe(program, "states", folder, inputs=prompts, suffix=".safetensors", last=[length])["states"]
            batch = tokenizer([prompt_clean(p) for p in prompts], padding="max_length", max_length=length, truncation=True,
                              add_special_tokens=True, return_attention_mask=True, return_tensors="pt")
            with torch.no_grad():
                expected = model.double()(batch.input_ids, batch.attention_mask).last_hidden_state
            model.float()
            expected = expected * batch.attention_mask[..., None]
            assert ours.shape == expected.shape, (ours.shape, expected.shape)
            assert (ours[batch.attention_mask == 0] == 0).all(), "what follows a caption must be zero"
            for prompt, found, reference in zip(prompts, ours.double(), expected):
                error, bound = (found - reference).norm().item(), 1e-5 * reference.norm().item()
                assert error <= bound, f"length {length}, {prompt!a}: error {error:.2e}, bound {bound:.2e}"
    print(f"prompts to states: {len(PROMPTS)} prompts at 3 lengths")


def main():
    program = sys.argv[1]
    check_clean(program)
    with tempfile.TemporaryDirectory() as folder:
        for name, byte_fallback in (("byte pieces", True), ("plain", False)):
            part = pathlib.Path(folder) / name.replace(" ", "_")
            part.mkdir()
            tokenizer = train_vocabulary(part, byte_fallback)
            check_tokens(program, part, tokenizer, name)
        check_pipeline(program, tokenizer, part)
    check_network(program, "fp32 file", random_model(1), torch.float32)
    check_network(program, "bf16 file", random_model(2, relative_attention_num_buckets=8, relative_attention_max_distance=20,
                                                     d_model=64, num_heads=2, d_kv=24), torch.bfloat16)


if __name__ == "__main__":
    main()
