"""Do exports of fine-tuning datasets load where they are used?

    python tests/benchmarks/consumers.py [--consumers VENV/bin/python]

Builds small SFT, preference and KTO sets (tools, several turns, a system prompt), exports them in every format, and has the real consumers
read them, in an interpreter that has them: `datasets.load_dataset` and mlcroissant on all; a training step of TRL's SFT, DPO and KTO trainers, with
a model of a few thousand weights made on the spot; LLaMA-Factory's loader and template; OpenAI's published rules. What is not installed is named:

    pip install torch datasets trl mlcroissant
    pip install torch datasets 'trl==0.24.0' llamafactory        # in an environment of its own: it asks for an older TRL
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
KINDS = ("sft", "preference", "kto")
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content or '' }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


def make(folder: Path) -> None:
    """All exports of drawn sets, a folder each."""
    from pipelines.export.finetune import FORMATS, LINES, export_dataset
    from pipelines.finetune.versions import build_dataset
    from tests.support.finetune import recipe, said, stored

    tools = json.dumps([{"type": "function", "function": {"name": "look_up", "description": "Finds a word", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}}])
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "wheel"}'}}]}
    calls = []
    for n in range(40):
        system = [{"role": "system", "content": "Be brief."}] if n % 3 == 0 else []
        asked = [*system, {"role": "user", "content": f"What of {n * n} and {n}?"}]
        if n % 4 == 1:
            asked += [{"role": "assistant", "content": f"Of which {n}?"}, {"role": "user", "content": f"The {n}th."}]
        if n % 4 == 2:
            asked += [call, {"role": "tool", "tool_call_id": "t1", "content": "A disc."}]
        answer = [call] if n % 4 == 3 else f"So much: {n * 7919}."
        for side, good in (("a", 0.9), ("b", 0.1)):
            calls.append(said(f"{side}{n:02}", asked, answer if side == "a" else f"No idea {n}.", good=good, tools=tools if n % 4 >= 2 else None))
    settings = stored(folder / "home", calls)
    for kind in KINDS:
        version = build_dataset(settings, recipe(kind, split={"by": "group"})).dataset_version
        for format in FORMATS:
            if format == "trl_parquet" or (format, kind) in LINES:
                export_dataset(settings, version, format, str(folder / "exports" / f"{kind}-{format}"), training_usd_per_mtok=3)


def check(folder: Path) -> int:
    """Every consumer over every export; prints the outcome and returns how many failed."""
    failed = 0
    for name, consumer in (("datasets.load_dataset", loaded), ("mlcroissant", croissant), ("OpenAI's rules", openai_rules), ("TRL", trl), ("LLaMA-Factory", llamafactory)):
        try:
            print(f"{name}: {consumer(folder / 'exports')}", flush=True)
        except ImportError as error:
            print(f"{name}: not installed here ({error})", flush=True)
        except Exception as error:
            failed += 1
            print(f"{name}: FAILED, {type(error).__name__}: {str(error)[:2000]}", flush=True)
    return failed


def loaded(exports: Path) -> str:
    from datasets import load_dataset

    told = []
    for path in sorted(exports.iterdir()):
        rows = json.loads((path / "manifest.json").read_text())["rows"]
        found = load_dataset(str(path), cache_dir=str(exports.parent / "cache"))
        counts = {split: len(part) for split, part in found.items()}
        assert counts == {split: n for split, n in rows.items() if n}, (path.name, counts, rows)
        told.append(f"{path.name} {sum(counts.values())}")
    return ", ".join(told)


def croissant(exports: Path) -> str:
    import mlcroissant

    sets = 0
    for path in sorted(exports.iterdir()):
        found = mlcroissant.Dataset(jsonld=str(path / "croissant.json"))
        assert not found.metadata.issues.errors, found.metadata.issues.errors
        for one in found.metadata.record_sets:
            assert next(iter(found.records(record_set=one.uuid)))
            sets += 1
    return f"{len(list(exports.iterdir()))} files without error or complaint of the format, {sets} record sets read"


def openai_rules(exports: Path) -> str:
    from tests.support.openai_rules import broken_rules

    files = sorted(exports.glob("*-openai/*.jsonl"))
    broken = [f"{f.parent.name}/{f.name} {b}" for f in files for b in broken_rules(f.read_text().splitlines())]
    assert files and not broken, broken[:5]
    return f"{len(files)} files keep to them"


def tokenizer_and_model(folder: Path):
    """A word tokenizer with a chat template, and a Llama of a few thousand weights, saved to a folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE(vocab={chr(c): n for n, c in enumerate(_bytes())} | {"<unk>": 256, "<s>": 257, "</s>": 258}, merges=[], unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    words.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.chat_template = TEMPLATE
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024))
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return tokenizer, model


def _bytes() -> list[int]:
    """The signs that stand for bytes in GPT-2's byte-level alphabet."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return shown + [256 + n for n in range(256 - len(shown))]


def trl(exports: Path) -> str:
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

    told = []
    for kind, config, trainer in (("sft", SFTConfig, SFTTrainer), ("preference", DPOConfig, DPOTrainer), ("kto", KTOConfig, KTOTrainer)):
        for format in ("trl", "trl_parquet"):
            tokenizer, model = tokenizer_and_model(exports.parent / "model")
            train = load_dataset(str(exports / f"{kind}-{format}"), split="train", cache_dir=str(exports.parent / "cache"))
            args = config(output_dir=str(exports.parent / "out"), max_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True, bf16=False, save_strategy="no", max_length=512, disable_tqdm=True)
            more = {} if kind == "sft" else {"ref_model": tokenizer_and_model(exports.parent / "model")[1]}
            done = trainer(model=model, args=args, train_dataset=train, processing_class=tokenizer, **more).train()
            told.append(f"{kind} {format} loss {done.training_loss:.3f}")
    return "a step of " + ", ".join(told)


def llamafactory(exports: Path) -> str:
    told = ""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        # It is imported for sounds, of which there are none here; there is no build of it for every torch.
        import importlib.machinery
        import types

        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        told = " (torchaudio, which it imports for sounds, does not load here and was left out)"
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    model = exports.parent / "model"
    tokenizer_and_model(model)
    counts = []
    for kind, stage in (("sft", "sft"), ("preference", "rm"), ("kto", "kto")):
        path = exports / f"{kind}-llamafactory"
        name = next(n for n in json.loads((path / "dataset_info.json").read_text()) if n.endswith("_train"))
        model_args, data_args, training_args, _, _ = get_train_args({
            "model_name_or_path": str(model), "stage": stage, "do_train": True, "dataset": name, "dataset_dir": str(path), "template": "llama3", "cutoff_len": 1024, "overwrite_cache": True,
            "output_dir": str(exports.parent / "out"), "report_to": "none", "finetuning_type": "full", "remove_unused_columns": False, "use_cpu": True, "bf16": False})  # fmt: skip
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        found = get_dataset(template, model_args, data_args, training_args, stage=stage, **module)["train_dataset"]
        rows = json.loads((path / "manifest.json").read_text())["rows"]["train"]
        assert len(found) == rows, (kind, len(found), rows)
        counts.append(f"{kind} as {stage} {len(found)}")
    return ", ".join(counts) + told


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--consumers", default=sys.executable, help="Python that has them")
    arguments.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.check:
        raise SystemExit(check(given.check))
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary))
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{temporary}/hf", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "DISABLE_VERSION_CHECK": "1"}
        raise SystemExit(subprocess.run([given.consumers, __file__, "--check", temporary], env=os.environ | quiet, check=False).returncode)
