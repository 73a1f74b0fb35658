from __future__ import annotations

import pytest

from fleetbench.catalog import config_json
from tests.catalog.configs_read import MODELS, published, shape_of

NAMES = sorted(path.stem for path in MODELS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_published_model_is_read_and_has_the_parameters_that_are_published(name: str) -> None:
    entry = published(name)
    shape = config_json.parse(entry["config"])
    assert not shape.guessed
    assert entry["source"].strip()
    assert entry["hub"].count("/") == 1
    if entry["params"] is not None:
        assert shape.params == pytest.approx(entry["params"]["value"], rel=1e-3)
        assert entry["params"]["source"].strip()


def test_most_published_models_are_checked_against_a_published_count() -> None:
    checked = [name for name in NAMES if published(name)["params"] is not None]
    assert len(checked) >= 40
    assert {"llama-3-70b", "llama-3.1-8b", "qwen3-30b-a3b", "gpt-oss-120b", "deepseek-v3", "kimi-k2"} <= set(checked)


@pytest.mark.parametrize(
    ("name", "tables", "total"),
    [
        # Totals of the Hub, with multi-token prediction: kvfit @ bd4ccab and llmfit @ a3e0eb2. Where the checkpoint
        # repeats both tables for it, they are counted here, not in the shape.
        ("glm-4.5-air", 2, 110_468_824_832),
        ("glm-4.5", 2, 358_337_791_296),
        ("glm-4.5", 0, 356_785_898_816),  # GLM-4.6, the same shape
        ("glm-5", 0, 753_864_139_008),
    ],
)
def test_multi_token_prediction_fills_up_to_what_the_checkpoint_holds(name: str, tables: int, total: int) -> None:
    shape = shape_of(name)
    assert shape.params + shape.mtp_params + tables * shape.embed_params == total


@pytest.mark.parametrize(
    ("name", "active", "source"),
    [
        (
            "deepseek-v3",
            36.6e9,
            "DeepSeek-V3, README_WEIGHTS.md: 36.6B activated, with the head, without the embedding",
        ),
        ("gpt-oss-120b", 5.13e9, "OpenAI's model card: 5.13B active, with the head, without the embedding"),
        ("gpt-oss-20b", 3.61e9, "OpenAI's model card: 3.61B active"),
        ("mixtral-8x7b", 12.9e9, "Mistral: 12.9B of 46.7B a token, which counts the embedding too"),
        ("kimi-k2", 32e9, "Moonshot: 32B activated"),
    ],
)
def test_active_parameters_are_those_that_others_publish(name: str, active: float, source: str) -> None:
    assert shape_of(name).active_params == pytest.approx(active, rel=0.015), source


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("llama-3-70b", 80 * 2 * 8 * 128),  # 327,680 bytes a token in 16 bits
        ("llama-3.1-8b", 32 * 2 * 8 * 128),
        ("llama-2-7b", 32 * 2 * 32 * 128),
        ("qwen3-30b-a3b", 48 * 2 * 4 * 128),
        ("deepseek-v3", 61 * (512 + 64)),  # 70,272 bytes: the latent and the rotary key, once for keys and values
        ("gpt-oss-120b", 18 * 2 * 8 * 64),  # every other layer slides
        ("gemma-2-9b", 21 * 2 * 8 * 256),
        ("gemma-3-27b", 10 * 2 * 16 * 128),  # one layer in six
        ("qwen3-next-80b-a3b", 12 * 2 * 2 * 256),  # one layer in four, the others keep a state
        ("llama-4-scout", 12 * 2 * 8 * 128),
        ("nemotron-3-nano-30b-a3b", 6 * 2 * 2 * 128),
        ("deepseek-v3.2", 61 * (512 + 64 + 128)),  # and a key of the indexer
    ],
)
def test_the_cache_of_a_token_is_counted_in_the_layers_that_keep_it(name: str, channels: int) -> None:
    layers = shape_of(name).layers
    assert sum(layer.k_channels + layer.v_channels for layer in layers if layer.attention == "full") == channels
