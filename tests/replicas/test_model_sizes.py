"""Which numbers of devices can share a model."""

import pytest
from transformers import GPT2Config, GPTBigCodeConfig, LlamaConfig

from replicas.model_sizes import ModelSizes

SMOLLM2 = ModelSizes(num_heads=9, num_kv_heads=3, num_intermediate=1536, vocab_size=49152)


def test_sizes_by_all_their_names() -> None:
    llama = LlamaConfig(
        num_attention_heads=8, num_key_value_heads=2, intermediate_size=320, vocab_size=258
    )
    assert ModelSizes.of(llama) == ModelSizes(8, 2, 320, 258)
    gpt2 = GPT2Config(n_head=4, n_embd=64, n_inner=None, vocab_size=100)
    assert ModelSizes.of(gpt2) == ModelSizes(4, 4, 0, 100)
    assert ModelSizes.of(GPT2Config(n_inner=96)).num_intermediate == 96
    code = GPTBigCodeConfig(n_head=4, n_embd=64, multi_query=True, vocab_size=100)
    assert ModelSizes.of(code).num_kv_heads == 1


def test_devices_may_share_a_head_of_keys() -> None:
    sizes = ModelSizes(num_heads=8, num_kv_heads=2, num_intermediate=320, vocab_size=258)
    assert [n for n in range(1, 10) if not sizes.obstacles(n)] == [1, 2, 4, 8]


def test_what_does_not_divide_is_named_with_what_does() -> None:
    SMOLLM2.require(3)
    with pytest.raises(ValueError, match=r"^tensor_parallel_size is 2") as caught:
        SMOLLM2.require(2)
    assert str(caught.value).endswith("9 attention heads and 3 key-value heads: possible are 1, 3")


@pytest.mark.parametrize(
    ("sizes", "obstacle"),
    [
        (ModelSizes(4, 4, 321, 128), "an intermediate size of 321"),
        (ModelSizes(4, 3, 320, 128), "3 key-value heads"),
        (ModelSizes(5, 5, 320, 128), "5 attention heads and 5 key-value heads"),
    ],
)
def test_each_size_counts(sizes: ModelSizes, obstacle: str) -> None:
    with pytest.raises(ValueError, match=obstacle):
        sizes.require(2)


def test_the_vocabulary_is_filled_up_before_it_is_split() -> None:
    sizes = ModelSizes(6, 6, 0, 258)
    assert sizes.obstacles(2) == []
    assert sizes.obstacles(3) == ["a vocabulary of 320"]
