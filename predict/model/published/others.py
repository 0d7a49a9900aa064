"""Zhipu, MiniMax, Microsoft, IBM, Ai2, Hugging Face: GLM, MiniMax, Phi, Granite, OLMo, SmolLM."""

from collections.abc import Mapping
from types import MappingProxyType

from predict.model.published.preset import Preset, fp8_blocks, shape

GLM_45 = {
    "model_type": "glm4_moe",
    "vocab_size": 151552,
    "head_dim": 128,
    "attention_bias": True,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
GLM_45_REPORT = "GLM-4.5 report 2025, table 1; zai-org/GLM-4.5*/config.json, without the MTP layer"
OLMO_2 = {"model_type": "olmo2", "vocab_size": 100352, "max_position_embeddings": 4096, "tie_word_embeddings": False}
OLMO_2_REPORT = "OLMo 2 report 2024 (arXiv 2501.00656), table 1; allenai/OLMo-2-*/config.json"

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "glm-4.5": Preset(
            {
                **GLM_45,
                **shape(5120, 12288, 92, 96, 8),
                "use_qk_norm": True,
                "n_routed_experts": 160,
                "moe_intermediate_size": 1536,
                "first_k_dense_replace": 3,
            },
            GLM_45_REPORT,
            (),
            22e12,
            "GLM-4.5 report 2025, section 2.3: 15T and 7T tokens",
        ),
        "glm-4.5-air": Preset(
            {
                **GLM_45,
                **shape(4096, 10944, 46, 96, 8),
                "use_qk_norm": False,
                "n_routed_experts": 128,
                "moe_intermediate_size": 1408,
                "first_k_dense_replace": 1,
            },
            GLM_45_REPORT,
        ),
        "glm-5": Preset(
            {
                "model_type": "glm_moe_dsa",
                "vocab_size": 154880,
                **shape(6144, 12288, 78, 64, 64),
                "q_lora_rank": 2048,
                "kv_lora_rank": 512,
                "qk_nope_head_dim": 192,
                "qk_rope_head_dim": 64,
                "v_head_dim": 256,
                "index_n_heads": 32,
                "index_head_dim": 128,
                "index_topk": 2048,
                "n_routed_experts": 256,
                "n_shared_experts": 1,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 2048,
                "first_k_dense_replace": 3,
                "max_position_embeddings": 202752,
                "tie_word_embeddings": False,
            },
            "zai-org/GLM-5/config.json, without the MTP layer",
        ),
        "minimax-m2": Preset(
            {
                "model_type": "minimax_m2",
                "vocab_size": 200064,
                **shape(3072, 1536, 62, 48, 8),
                "head_dim": 128,
                "num_local_experts": 256,
                "num_experts_per_tok": 8,
                "max_position_embeddings": 196608,
                "tie_word_embeddings": False,
                "quantization_config": fp8_blocks("gate", "e_score_correction_bias", "lm_head"),
            },
            "MiniMaxAI/MiniMax-M2/config.json, without the MTP layers",
        ),
        "phi-4": Preset(
            {
                "model_type": "phi3",
                "vocab_size": 100352,
                **shape(5120, 17920, 40, 40, 10),
                "sliding_window": None,
                "max_position_embeddings": 16384,
                "tie_word_embeddings": False,
            },
            "microsoft/phi-4/config.json",
            ("phi-4-14b",),
            9.8e12,
            "Phi-4 model card: 9.8T tokens",
        ),
        "phi-4-mini": Preset(
            {
                "model_type": "phi3",
                "vocab_size": 200064,
                **shape(3072, 8192, 32, 24, 8),
                "sliding_window": 262144,
                "max_position_embeddings": 131072,
                "tie_word_embeddings": True,
            },
            "microsoft/Phi-4-mini-instruct/config.json",
            ("phi-4-mini-3.8b",),
            5e12,
            "Phi-4-mini model card: 5T tokens",
        ),
        "granite-3.3-8b": Preset(
            {
                "model_type": "granite",
                "vocab_size": 49159,
                **shape(4096, 12800, 40, 32, 8),
                "max_position_embeddings": 131072,
                "tie_word_embeddings": True,
            },
            "ibm-granite/granite-3.3-8b-instruct/config.json",
            ("granite-8b",),
        ),
        "olmo-2-7b": Preset(
            {**OLMO_2, **shape(4096, 11008, 32, 32, 32)}, OLMO_2_REPORT, (), 4e12, "OLMo 2 model card: 4T tokens"
        ),
        "olmo-2-13b": Preset(
            {**OLMO_2, **shape(5120, 13824, 40, 40, 40)}, OLMO_2_REPORT, (), 5e12, "OLMo 2 model card: 5T tokens"
        ),
        "olmo-2-32b": Preset(
            {**OLMO_2, **shape(5120, 27648, 64, 40, 8)}, OLMO_2_REPORT, (), 6e12, "OLMo 2 model card: 6T tokens"
        ),
        "smollm3-3b": Preset(
            {
                "model_type": "smollm3",
                "vocab_size": 128256,
                **shape(2048, 11008, 36, 16, 4),
                "max_position_embeddings": 65536,
                "tie_word_embeddings": True,
            },
            "HuggingFaceTB/SmolLM3-3B/config.json",
            ("smollm3",),
            11.2e12,
            "SmolLM3 model card: 11.2T tokens",
        ),
    }
)
