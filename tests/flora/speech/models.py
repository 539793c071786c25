"""A tiny random Whisper and its tokenizer, and clips of noise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from flora.speech.audio import SAMPLE_RATE_HZ, to_pcm

SPECIALS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|ru|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|notimestamps|>",
)
END, START, ENGLISH, RUSSIAN, TASK, PREVIOUS, PLAIN = range(256, 263)
SUPPRESSED = (1, 2, START)
MAX_DURATION_S = 1.0
_NUM_MELS = 16


def make_whisper(seed: int = 0) -> Any:
    """Two layers on each side that hear a second of sound."""
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=256 + len(SPECIALS),
        num_mel_bins=_NUM_MELS,
        d_model=128,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=192,
        decoder_ffn_dim=192,
        max_source_positions=50,
        max_target_positions=64,
        init_std=0.1,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=END,
        decoder_start_token_id=START,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero by default, which would hide a bias that is scaled
            torch.nn.init.normal_(parameter, std=0.1)
    model.generation_config.suppress_tokens = list(SUPPRESSED)
    return model


def make_whisper_dir(folder: Path) -> Path:
    make_whisper().save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=_NUM_MELS, chunk_length=1).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    backend.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "WhisperTokenizer",
        "processor_class": "WhisperProcessor",
        **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), SPECIALS[0]),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def make_noise(seed: int, duration_s: float = 0.5) -> bytes:
    """Coloured noise as 16 kHz mono int16 PCM; another seed sounds different."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(100, 4000, 3))
    return to_pcm((0.1 * tones + 0.02 * rng.normal(size=len(t))).astype(np.float32))
