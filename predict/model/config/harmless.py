"""Fields of a configuration that change no parameter, FLOP, byte or limit. Any other field that no reader used is told.

The names are those of `transformers` and of the configurations that are published with models.
"""

SAVED_BY_TRANSFORMERS = """
_attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash _experts_implementation
_flash_attn_2_enabled _name_or_path _output_attentions begin_suppress_tokens
chunk_size_feed_forward custom_pipelines decoder_start_token_id diversity_penalty do_sample early_stopping
encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
id2label is_composition is_decoder is_encoder_decoder label2id length_penalty max_length max_new_tokens min_length
model_type name no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
output_hidden_states output_scores problem_type pruned_heads remove_invalid_values repetition_penalty return_dict
return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
tie_encoder_decoder tie_last_hidden_states tie_weights tokenizer_class tokenizer_path top_k top_p torchscript
transformers.js_config transformers_js_config transformers_version typical_p unsloth_fixed unsloth_version
use_bfloat16 use_cache
"""
ACTIVATIONS_AND_NORMS = """
act_fn activation activation_function apply_layernorm_1p apply_query_key_layer_scaling
apply_residual_connection_post_layernorm attention_softmax_in_fp32 ffn_act_fn fp32_residual_connection hidden_act
hidden_activation layer_norm_eps layer_norm_epsilon layer_norm_zero_centered layernorm_epsilon layernorm_type
mamba_hidden_act mlp_hidden_act moe_norm_min norm_eps norm_epsilon norm_type normalization_type normalized_attention
output_gate_type query_pre_attn_scalar residual_in_fp32 rms_norm_eps softmax_scale softmax_type use_post_layer_norm
use_rms_norm use_rmsnorm zero_centered_gamma
"""
SCALES_AND_CAPS = """
attention_multiplier attn_alpha attn_logit_softcapping attn_output_multiplier attn_scale attn_temperature_tuning
clip_qkv dim_model_base emb_scale embedding_multiplier embedding_scale final_logit_softcapping floor_scale
full_attn_alpha_factor full_attn_beta_factor layernorm_full_attention_alpha layernorm_full_attention_beta
layernorm_linear_attention_alpha layernorm_linear_attention_beta layernorm_mlp_alpha layernorm_mlp_beta
linear_attn_alpha_factor linear_attn_beta_factor logit_scale logits_scaling mlp_alpha_factor mlp_beta_factor
mup_denominator mup_width_multiplier postnorm query_key_multiplier reorder_and_upcast_attn residual_multiplier
residual_scale scale_attention_softmax_in_fp32 scale_attn_by_inverse_layer_idx scale_attn_weights scale_depth
scale_emb scale_width swiglu_alpha swiglu_limit swiglu_limits
"""
POSITIONS = """
alibi alibi_bias_max default_theta freq_allocation global_rope_theta indexer_rope_interleave local_rope_theta
no_rope_layer_interval no_rope_layers original_rope_theta partial_rotary_factor position_embedding_type rope_3d_vision
rope_interleave rope_interleaved rope_local_base_freq rope_partial_factor rope_pct rope_percent rope_percentage
rope_ratio rope_theta rope_thetas rope_type rotary rotary_base rotary_dim rotary_emb_base rotary_emb_fraction
rotary_emb_interleaved rotary_emb_scale_base rotary_pct swa_rope_theta use_3d_rope use_dynamic_ntk use_logn_attn
use_rope use_rotary_position_embeddings
"""
ROUTING = """
aux_loss_alpha aux_loss_coef capacity_factor expert_selection_fn fuse_gate_detach_matmul index_share_for_mtp_iteration
input_jitter_noise moe_aux_loss_coef moe_capacity moe_dropout_prob moe_gating_fact moe_jitter_eps moe_loss_weight
moe_normalize_expert_weights moe_orthogonal_loss_lambda moe_renormalize moe_router_activation_func moe_router_dtype
moe_router_enable_expert_bias moe_router_scaling_factor moe_router_topk_scaling_factor moe_router_use_sigmoid
moe_token_dispatcher_type moe_use_aux_free moe_use_hard_gate moe_use_routing_bias moe_z_loss_coef multi_gate n_group
norm_topk_prob num_expert_group output_router_logits pre_scale route_norm route_scale routed_scaling_factor
router_activation router_aux_loss router_aux_loss_coef router_bias_update_speed router_dtype router_jitter_noise
router_z_loss_coef score_func score_function scoring_func seq_aux topk_group topk_method use_group_limited_topk
use_grouped_topk use_moe_router_scaling use_routing_bias
"""
TRAINING = """
attn_impl attn_implementation attn_pdrop attn_uses_sequence_id bias_dropout_fusion cache_shared_buffer description
emb_pdrop embd_pdrop embed_from_interpolated embedding_fraction ep_size expert_model_parallel_size fuse_attention_ffn
fuse_attention_qkv fuse_linear fuse_ln fuse_rms_norm fuse_rope fuse_softmax_mask fuse_ssm fuse_swiglu
gradient_checkpointing init_device init_device_type init_method init_std initializer_factor initializer_range
initializer_range_scale language_type layernorm_init lora_dtype masked_softmax_fusion max_sequence_length_train
mtp_loss_scaling_factor mtp_loss_weight pad_token pipeline_parallel_degree prefix_lm pretrain_tp
pretraining_sequence_length pretraining_tp pretraining_type recompute recompute_granularity rescale_every resid_pdrop
seed sep_parallel_degree sequence_parallel skip_bias_add slow_but_exact softmax_in_fp32 summary_activation
summary_first_dropout summary_proj_to_labels summary_type summary_use_proj tensor_parallel_degree training_args
use_cache_kernel use_cache_quantization use_flash_attention use_flash_attention_2 use_flash_attn use_fp32_residual
use_fp8_attention use_mup use_recompute use_sparse_flash_attn use_sparse_head_and_loss_fn use_unpad_sequence verbose
"""
MULTIMODAL = """
audio_soft_tokens_per_image audio_token audio_token_index batch_vision_input boi_token_index downsample_ratio
dynamic_image_size dynamic_resolution eoi_token_index force_image_size ignore_index image_aspect_ratio
image_grid_pinpoints image_placeholder image_seq_len image_seq_length image_token image_token_index
language_model_only max_dynamic_patch max_slice_nums media_placeholder_token_id min_dynamic_patch mm_hidden_size
mm_tokens_per_image mm_use_im_patch_token mm_use_im_start_end mm_vision_select_feature mm_vision_select_layer
position_id_per_seconds projector_hidden_act ps_version select_layer slice_mode spatial_merge_size template
tokens_per_second use_bidirectional_attention use_image_id use_image_start_end use_thumbnail use_visual_tokenizer_pos
video_placeholder video_size video_token video_token_index vision_feature_layer vision_feature_select_strategy
vision_soft_tokens_per_image
"""
GROUPS = (SAVED_BY_TRANSFORMERS, ACTIVATIONS_AND_NORMS, SCALES_AND_CAPS, POSITIONS, ROUTING, TRAINING, MULTIMODAL)
HARMLESS = frozenset(name for group in GROUPS for name in group.split())
HARMLESS_ENDS = (
    "_token_id",
    "_token_ids",
    "_token_index",
    "_start_id",
    "_end_id",
    "_bos_id",
    "_eos_id",
    "dropout",
    "_dropout_prob",
    "_dropout_p",
    "_dropout_rate",
    "_loss_coef",
)
# Parts that are not there if the field is false or 0. A reader that does not ask builds none of them.
PARTS = """
add_cross_attention add_qkv_bias attention_bias attention_output_gate bias mamba_proj_bias mlp_bias n_shared_experts
num_shared_experts qkv_bias shared_expert_intermediate_size use_bias use_cla use_mrope use_qkv_bias
"""


def is_harmless(name: str, value: object = None) -> bool:
    """Whether a field of this name, or with this value, changes nothing that is counted here."""
    absent = name in PARTS.split() and (value is False or value == 0)
    return absent or name in HARMLESS or name.endswith(HARMLESS_ENDS)
