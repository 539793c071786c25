"""A LoRA that PEFT trained, published as it is and called beside fLoRA adapters."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from flora.adapter_files import write_adapter
from tests.end_to_end.real_model.demo import BASE, MODEL
from tests.end_to_end.real_model.test_real_server import QUESTION, ask, demo_files, put

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
]

ANSWER = "Bien sûr: Paris, mon ami."
NUM_STEPS = 9


def train(folder: Path) -> str:
    """Teaches PEFT's LoRA one answer; what PEFT itself then finds best, token by token."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"],
        rank_pattern={"v_proj": 8},
        layers_to_transform=list(range(24, 30)),  # nothing is computed back through the others
    )
    model = get_peft_model(base, config)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )["input_ids"]
    answer = tokenizer(ANSWER + tokenizer.eos_token, return_tensors="pt")["input_ids"]
    ids = torch.cat([prompt, answer], dim=1)
    labels = torch.where(torch.arange(ids.shape[1]) < prompt.shape[1], -100, ids)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=8e-3)
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    with torch.inference_mode():
        best = model(input_ids=ids).logits[0, prompt.shape[1] - 1 : -1].argmax(-1)
    return str(tokenizer.decode(best, skip_special_tokens=True))


def test_a_peft_lora_is_served_beside_flora(
    url: str, client: openai.OpenAI, tmp_path: Path
) -> None:
    assert train(tmp_path) == ANSWER
    files = (tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json")
    made = put(url, "friend", *(file.read_bytes() for file in files)).json()
    assert (made["version"], made["rank"], made["num_modules"]) == (1, 8, 30)
    models = [f"{BASE}:friend", f"{BASE}:pirate", BASE, f"{BASE}:friend@1"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda model: ask(client, model), models * 2))
    assert {answers[i] for i in (0, 3, 4, 7)} == {ANSWER}
    assert {answers[i] for i in (2, 6)} == {"The capital of France is Paris."}
    assert all("Arrr" in answers[i] for i in (1, 5))
    page = httpx.get(f"{url}/metrics").text
    used = [line for line in page.splitlines() if line.startswith("flora_lora_slots_used{")]
    assert sum(float(line.split()[-1]) for line in used) == 1

    # Versions do not care about kinds: the next one is a fLoRA adapter, and a rollback undoes it.
    assert (
        put(url, "friend", *write_adapter(demo_files("pirate"), "bfloat16")).json()["version"] == 2
    )
    assert "Arrr" in ask(client, f"{BASE}:friend")
    assert ask(client, f"{BASE}:friend@1") == ANSWER
    httpx.post(f"{url}/v1/adapters/friend/rollback").raise_for_status()
    assert ask(client, f"{BASE}:friend") == ANSWER
    assert httpx.delete(f"{url}/v1/adapters/friend").status_code in (200, 204)
    with pytest.raises(openai.NotFoundError):
        ask(client, f"{BASE}:friend")
