#include "launcher/model/published_table.h"

namespace sluice::launcher {

namespace {

constexpr const char* kLlamaColumns =
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads";

constexpr const char* kQwenMoeColumns =
    "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
    "moe_intermediate_size num_experts num_experts_per_tok";

constexpr PublishedFamily kFamilies[] = {
    /* 0 */ {"hidden_size num_hidden_layers num_attention_heads ffn_dim",
             R"("model_type": "opt", "torch_dtype": "float16")"},
    /* 1 */
    {kLlamaColumns, R"("model_type": "llama", "torch_dtype": "float16", )"
                    R"("max_position_embeddings": 2048, "rms_norm_eps": 1e-6)"},
    /* 2 */
    {kLlamaColumns, R"("model_type": "llama", "torch_dtype": "float16", )"
                    R"("max_position_embeddings": 4096, "rms_norm_eps": 1e-5)"},
    /* 3 */
    {kLlamaColumns, R"("model_type": "llama", "torch_dtype": "bfloat16", )"
                    R"("max_position_embeddings": 2048, "rms_norm_eps": 1e-5)"},
    /* 4 */
    {kLlamaColumns,
     R"("model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 128256, )"
     R"("rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192)"},
    /* 5 */
    {kLlamaColumns,
     R"("model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 128256, )"
     R"("rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072, )"
     R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, )"
     R"("high_freq_factor": 4.0, "original_max_position_embeddings": 8192})"},
    /* 6 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
     "head_dim",
     R"("model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 128256, )"
     R"("rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 131072, )"
     R"("rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, )"
     R"("high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, )"
     R"("tie_word_embeddings": true)"},
    /* 7 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
     "vocab_size head_dim",
     R"("model_type": "mistral", "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5, )"
     R"("max_position_embeddings": 32768)"},
    /* 8 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
     "vocab_size head_dim",
     R"("model_type": "mistral", "torch_dtype": "bfloat16", "rms_norm_eps": 1e-5, )"
     R"("max_position_embeddings": 131072, "sliding_window": null, "rope_theta": 1e6)"},
    /* 9 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
     "vocab_size",
     R"("model_type": "qwen2", "torch_dtype": "bfloat16", "rope_theta": 1e6, )"
     R"("max_position_embeddings": 32768)"},
    /* 10 */
    {kLlamaColumns, R"("model_type": "qwen3", "torch_dtype": "bfloat16", "rope_theta": 1e6, )"
                    R"("max_position_embeddings": 40960, "head_dim": 128)"},
    /* 11 */
    {"n_embd n_layer n_head", R"("model_type": "gpt2", "torch_dtype": "float32")", "", true},
    /* 12 */ {"hidden_size n_layer n_head", R"("model_type": "bloom", "torch_dtype": "float16")"},
    /* 13 */ {"hidden_size n_layer n_head", R"("model_type": "bloom", "torch_dtype": "bfloat16")"},
    /* 14 */
    {"n_embd n_layer n_head rotary_dim", R"("model_type": "gptj", "torch_dtype": "float32")"},
    /* 15 */
    {"n_embd n_layer n_head rotary_dim",
     R"("model_type": "codegen", "vocab_size": 51200, "torch_dtype": "float16")"},
    /* 16 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads vocab_size",
     R"("model_type": "gpt_neox", "torch_dtype": "float16")"},
    /* 17 */
    {"hidden_size num_hidden_layers num_attention_heads num_kv_heads",
     R"("model_type": "falcon", "torch_dtype": "bfloat16")"},
    /* 18 */
    {kLlamaColumns, R"("model_type": "glm", "torch_dtype": "bfloat16", "vocab_size": 151552, )"
                    R"("head_dim": 128)"},
    /* 19 */
    {kLlamaColumns, R"("model_type": "glm4", "torch_dtype": "bfloat16", "vocab_size": 151552, )"
                    R"("head_dim": 128, "attention_bias": false, "rms_norm_eps": 1e-5, )"
                    R"("max_position_embeddings": 32768)"},
    /* 20 */
    {"hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
     "vocab_size max_position_embeddings",
     R"("model_type": "phi3", "torch_dtype": "bfloat16")"},
    /* 21 */ {kLlamaColumns, R"("model_type": "gemma2", "torch_dtype": "bfloat16")"},
    /* 22 */
    {kLlamaColumns,
     R"("model_type": "gemma3_text", "torch_dtype": "bfloat16", "vocab_size": 262144, )"
     R"("sliding_window": 512, "max_position_embeddings": 32768)"},
    /* 23 */
    {kLlamaColumns,
     R"("model_type": "gemma3", "torch_dtype": "bfloat16", )"
     R"("text_config": {"sliding_window": 1024, "rope_scaling": {"rope_type": "linear", )"
     R"("factor": 8.0})",
     "}"},
    /* 24 */
    {"hidden_size intermediate_size num_layers num_attention_heads",
     R"("model_type": "yalm", "torch_dtype": "bfloat16")"},
    /* 25 */
    {kLlamaColumns, R"("model_type": "mixtral", "torch_dtype": "bfloat16", )"
                    R"("sliding_window": null, "rope_theta": 1e6, "rms_norm_eps": 1e-5)"},
    /* 26 */
    {kQwenMoeColumns, R"("model_type": "qwen2_moe", "torch_dtype": "bfloat16", )"
                      R"("vocab_size": 151936, "rope_theta": 1e6)"},
    /* 27 */
    {kQwenMoeColumns, R"("model_type": "qwen3_moe", "torch_dtype": "bfloat16", )"
                      R"("vocab_size": 151936, "rope_theta": 1e6, "head_dim": 128, )"
                      R"("norm_topk_prob": true, "max_position_embeddings": 40960)"},
    /* 28 */
    {kLlamaColumns, R"("model_type": "olmoe", "torch_dtype": "bfloat16")"},
    /* 29 */
    {kLlamaColumns, R"("model_type": "phimoe", "torch_dtype": "bfloat16", )"
                    R"("attention_bias": true, "lm_head_bias": true, "sliding_window": 131072, )"
                    R"("rope_theta": 10000)"},
    /* 30 */
    {"d_model n_layers n_heads", R"("model_type": "dbrx", "torch_dtype": "bfloat16")"},
};

constexpr PublishedModel kModels[] = {
    // OPT
    {0, "facebook/opt-125m", "768 12 12 3072"},
    {0, "facebook/opt-350m", "1024 24 16 4096",
     R"("word_embed_proj_dim": 512, "do_layer_norm_before": false)"},
    {0, "facebook/opt-{,iml-,iml-max-}1.3b", "2048 24 32 8192"},
    {0, "facebook/opt-2.7b", "2560 32 32 10240"},
    {0, "facebook/opt-6.7b", "4096 32 32 16384"},
    {0, "facebook/opt-13b", "5120 40 40 20480"},
    {0, "facebook/opt-{,iml-,iml-max-}30b", "7168 48 56 28672"},
    {0, "facebook/opt-66b", "9216 64 72 36864"},
    {0, "facebook/opt-175b", "12288 96 96 49152"},
    // Llama 1
    {1, "huggyllama/llama-7b", "4096 11008 32 32"},
    {1, "huggyllama/llama-13b", "5120 13824 40 40"},
    {1, "huggyllama/llama-30b", "6656 17920 60 52"},
    {1, "huggyllama/llama-65b", "8192 22016 80 64"},
    // Llama 2
    {2, "meta-llama/Llama-2-7b{,-chat}-hf", "4096 11008 32 32"},
    {2, "meta-llama/Llama-2-13b{,-chat}-hf", "5120 13824 40 40"},
    {2, "meta-llama/Llama-2-70b{,-chat}-hf", "8192 28672 80 64 8"},
    {3, "TinyLlama/TinyLlama-1.1B-{Chat-v1.0,intermediate-step-1431k-3T}", "2048 5632 22 32 4"},
    // Llama 3
    {4, "meta-llama/Meta-Llama-3-8B{,-Instruct}", "4096 14336 32 32 8"},
    {4, "meta-llama/Meta-Llama-3-70B{,-Instruct}", "8192 28672 80 64 8"},
    // Llama 3.1 and 3.3
    {5, "meta-llama/Llama-3.1-8B{,-Instruct}", "4096 14336 32 32 8"},
    {5, "meta-llama/Llama-3.1-70B{,-Instruct}", "8192 28672 80 64 8"},
    {5, "meta-llama/Llama-3.1-405B{,-Instruct}", "16384 53248 126 128 8"},
    {5, "meta-llama/Meta-Llama-3.1-8B{,-Instruct}", "4096 14336 32 32 8"},
    {5, "meta-llama/Meta-Llama-3.1-70B{,-Instruct}", "8192 28672 80 64 8"},
    {5, "meta-llama/Meta-Llama-3.1-405B{,-Instruct}", "16384 53248 126 128 8"},
    {5, "meta-llama/Llama-3.3-70B-Instruct", "8192 28672 80 64 8"},
    // Llama 3.2
    {6, "meta-llama/Llama-3.2-1B{,-Instruct}", "2048 8192 16 32 8 64"},
    {6, "meta-llama/Llama-3.2-3B{,-Instruct}", "3072 8192 28 24 8 128"},
    // Mistral
    {7, "mistralai/Mistral-7B-{,Instruct-}v0.1", "4096 14336 32 32 8 32000",
     R"("sliding_window": 4096)"},
    {7, "mistralai/Mistral-7B-Instruct-v0.2", "4096 14336 32 32 8 32000",
     R"("sliding_window": null, "rope_theta": 1e6)"},
    {7, "mistralai/Mistral-7B-{,Instruct-}v0.3", "4096 14336 32 32 8 32768",
     R"("sliding_window": null, "rope_theta": 1e6)"},
    {7, "mistralai/Codestral-22B-v0.1", "6144 16384 56 48 8 32768 128",
     R"("sliding_window": null, "rope_theta": 1e6)"},
    {7, "mistralai/Mistral-Small-Instruct-2409", "6144 16384 56 48 8 32768 128",
     R"("sliding_window": null, "rope_theta": 1e6)"},
    {7, "mistralai/Ministral-8B-Instruct-2410", "4096 12288 36 32 8 131072 128",
     R"("sliding_window": 32768, "rope_theta": 1e8)"},
    {7, "mistralai/Mistral-Small-24B-{Base,Instruct}-2501", "5120 32768 40 32 8 131072 128",
     R"("sliding_window": null, "rope_theta": 1e8)"},
    {8, "mistralai/Mistral-Nemo-{Base,Instruct}-2407", "5120 14336 40 32 8 131072 128"},
    {8, "mistralai/Mistral-Large-Instruct-{2407,2411}", "12288 28672 88 96 8 32768 128"},
    // Qwen2 and Qwen2.5
    {9, "Qwen/Qwen2-0.5B{,-Instruct}", "896 4864 24 14 2", R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2-1.5B{,-Instruct}", "1536 8960 28 12 2", R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2-7B{,-Instruct}", "3584 18944 28 28 4 152064"},
    {9, "Qwen/Qwen2-72B{,-Instruct}", "8192 29568 80 64 8 152064", R"("rms_norm_eps": 1e-5)"},
    {9, "Qwen/Qwen2.5-0.5B{,-Instruct}", "896 4864 24 14 2", R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-1.5B{,-Instruct}", "1536 8960 28 12 2", R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-3B{,-Instruct}", "2048 11008 36 16 2", R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-7B{,-Instruct}", "3584 18944 28 28 4 152064"},
    {9, "Qwen/Qwen2.5-14B{,-Instruct}", "5120 13824 48 40 8 152064", R"("rms_norm_eps": 1e-5)"},
    {9, "Qwen/Qwen2.5-32B{,-Instruct}", "5120 27648 64 40 8 152064", R"("rms_norm_eps": 1e-5)"},
    {9, "Qwen/Qwen2.5-72B{,-Instruct}", "8192 29568 80 64 8 152064", R"("rms_norm_eps": 1e-5)"},
    {9, "Qwen/Qwen2.5-Coder-0.5B{,-Instruct}", "896 4864 24 14 2",
     R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-Coder-1.5B{,-Instruct}", "1536 8960 28 12 2",
     R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-Coder-3B{,-Instruct}", "2048 11008 36 16 2",
     R"("tie_word_embeddings": true)"},
    {9, "Qwen/Qwen2.5-Coder-7B{,-Instruct}", "3584 18944 28 28 4 152064"},
    {9, "Qwen/Qwen2.5-Coder-14B{,-Instruct}", "5120 13824 48 40 8 152064",
     R"("rms_norm_eps": 1e-5)"},
    {9, "Qwen/Qwen2.5-Coder-32B{,-Instruct}", "5120 27648 64 40 8 152064",
     R"("rms_norm_eps": 1e-5)"},
    // Qwen3
    {10, "Qwen/Qwen3-0.6B{,-Base}", "1024 3072 28 16 8", R"("tie_word_embeddings": true)"},
    {10, "Qwen/Qwen3-1.7B{,-Base}", "2048 6144 28 16 8", R"("tie_word_embeddings": true)"},
    {10, "Qwen/Qwen3-4B{,-Base}", "2560 9728 36 32 8", R"("tie_word_embeddings": true)"},
    {10, "Qwen/Qwen3-8B{,-Base}", "4096 12288 36 32 8"},
    {10, "Qwen/Qwen3-14B{,-Base}", "5120 17408 40 40 8"},
    {10, "Qwen/Qwen3-32B", "5120 25600 64 64 8"},
    // GPT-2
    {11, "openai-community/gpt2", "768 12 12"},
    {11, "openai-community/gpt2-medium", "1024 24 16"},
    {11, "openai-community/gpt2-large", "1280 36 20"},
    {11, "openai-community/gpt2-xl", "1600 48 25"},
    {11, "distilbert/distilgpt2", "768 6 12"},
    // BLOOM
    {12, "bigscience/{bloom,bloomz}-560m", "1024 24 16"},
    {12, "bigscience/{bloom,bloomz}-1b1", "1536 24 16"},
    {12, "bigscience/{bloom,bloomz}-1b7", "2048 24 16"},
    {12, "bigscience/{bloom,bloomz}-3b", "2560 30 32"},
    {12, "bigscience/{bloom,bloomz}-7b1", "4096 30 32"},
    {13, "bigscience/{bloom,bloomz}", "14336 70 112"},
    // GPT-J and CodeGen
    {14, "EleutherAI/gpt-j-6b", "4096 28 16 64"},
    {15, "Salesforce/codegen-350M-{nl,multi,mono}", "1024 20 16 32"},
    {15, "Salesforce/codegen-2B-{nl,multi,mono}", "2560 32 32 64"},
    {15, "Salesforce/codegen-6B-{nl,multi,mono}", "4096 33 16 64"},
    {15, "Salesforce/codegen-16B-{nl,multi,mono}", "6144 34 24 64"},
    // GPT-NeoX and Pythia
    {16, "EleutherAI/gpt-neox-20b", "6144 24576 44 64 50432", R"("hidden_act": "gelu_fast")"},
    {16, "EleutherAI/pythia-14m", "128 512 6 4 50304"},
    {16, "EleutherAI/pythia-31m", "256 1024 6 8 50304"},
    {16, "EleutherAI/pythia-70m{,-deduped}", "512 2048 6 8 50304"},
    {16, "EleutherAI/pythia-160m{,-deduped}", "768 3072 12 12 50304"},
    {16, "EleutherAI/pythia-410m{,-deduped}", "1024 4096 24 16 50304"},
    {16, "EleutherAI/pythia-1b{,-deduped}", "2048 8192 16 8 50304"},
    {16, "EleutherAI/pythia-1.4b{,-deduped}", "2048 8192 24 16 50304"},
    {16, "EleutherAI/pythia-2.8b{,-deduped}", "2560 10240 32 32 50304"},
    {16, "EleutherAI/pythia-6.9b{,-deduped}", "4096 16384 32 32 50432"},
    {16, "EleutherAI/pythia-12b{,-deduped}", "5120 20480 36 40 50688"},
    // Falcon
    {17, "tiiuae/falcon-7b{,-instruct}", "4544 32 71",
     R"("multi_query": true, "parallel_attn": true)"},
    {17, "tiiuae/falcon-40b{,-instruct}", "8192 60 128 8", R"("new_decoder_architecture": true)"},
    {17, "tiiuae/falcon-180B{,-chat}", "14848 80 232 8", R"("new_decoder_architecture": true)"},
    {17, "tiiuae/falcon-11B", "4096 60 32 8",
     R"("new_decoder_architecture": true, "num_ln_in_parallel_attn": 1, )"
     R"("ffn_hidden_size": 16384, "rope_theta": 500042, "max_position_embeddings": 8192, )"
     R"("tie_word_embeddings": false)"},
    // GLM-4
    {18, "{THUDM,zai-org}/glm-4-9b-hf", "4096 13696 40 32 2", R"("max_position_embeddings": 8192)"},
    {18, "{THUDM,zai-org}/glm-4-9b-chat-hf", "4096 13696 40 32 2",
     R"("max_position_embeddings": 131072)"},
    {19, "{THUDM,zai-org}/GLM-4-9B-0414", "4096 13696 40 32 2"},
    {19, "{THUDM,zai-org}/GLM-Z1-9B-0414", "4096 13696 40 32 2"},
    {19, "{THUDM,zai-org}/GLM-4-32B-0414", "6144 23040 61 48 2"},
    {19, "{THUDM,zai-org}/GLM-Z1-32B-0414", "6144 23040 61 48 2"},
    // Phi-3 and Phi-4
    {20, "microsoft/Phi-3-mini-4k-instruct", "3072 8192 32 32 32 32064 4096",
     R"("sliding_window": 2047)"},
    {20, "microsoft/{Phi-3-mini-128k,Phi-3.5-mini}-instruct", "3072 8192 32 32 32 32064 131072",
     R"("sliding_window": 262144)"},
    {20, "microsoft/Phi-3-medium-4k-instruct", "5120 17920 40 40 10 32064 4096",
     R"("sliding_window": 2047)"},
    {20, "microsoft/Phi-3-medium-128k-instruct", "5120 17920 40 40 10 32064 131072",
     R"("sliding_window": 131072)"},
    {20, "microsoft/phi-4", "5120 17920 40 40 10 100352 16384", R"("rope_theta": 250000)"},
    {20, "microsoft/Phi-4-mini-instruct", "3072 8192 32 24 8 200064 131072",
     R"("sliding_window": 262144, "partial_rotary_factor": 0.75, )"
     R"("tie_word_embeddings": true)"},
    // Gemma 2 and 3
    {21, "google/gemma-2-2b{,-it}", "2304 9216 26 8 4"},
    {21, "google/gemma-2-9b{,-it}", "3584 14336 42 16 8"},
    {21, "google/gemma-2-27b{,-it}", "4608 36864 46 32 16",
     R"("head_dim": 128, "query_pre_attn_scalar": 144)"},
    {22, "google/gemma-3-270m{,-it}", "640 2048 18 4 1"},
    {22, "google/gemma-3-1b-{pt,it}", "1152 6912 26 4 1"},
    {23, "google/gemma-3-4b-{pt,it}", "2560 10240 34 8 4"},
    {23, "google/gemma-3-12b-{pt,it}", "3840 15360 48 16 8"},
    {23, "google/gemma-3-27b-{pt,it}", "5376 21504 62 32 16",
     R"("head_dim": 128, "query_pre_attn_scalar": 168)"},
    // YaLM
    {24, "yandex/yalm-100b", "10240 27308 80 128"},
    // Mixtures of experts
    {25, "mistralai/Mixtral-8x7B-{v0.1,Instruct-v0.1}", "4096 14336 32 32 8",
     R"("max_position_embeddings": 32768)"},
    {25, "mistralai/Mixtral-8x22B-v0.1", "6144 16384 56 48 8",
     R"("max_position_embeddings": 65536)"},
    {25, "mistralai/Mixtral-8x22B-Instruct-v0.1", "6144 16384 56 48 8",
     R"("max_position_embeddings": 65536, "vocab_size": 32768)"},
    {26, "Qwen/Qwen1.5-MoE-A2.7B{,-Chat}", "2048 5632 24 16 16 1408 60 4",
     R"("shared_expert_intermediate_size": 5632, "max_position_embeddings": 8192)"},
    {27, "Qwen/Qwen3-30B-A3B{,-Base}", "2048 6144 48 32 4 768 128 8"},
    {27, "Qwen/Qwen3-235B-A22B", "4096 12288 94 64 4 1536 128 8"},
    {28, "allenai/OLMoE-1B-7B-{0924,0924-Instruct,0125,0125-Instruct}", "2048 1024 16 16 16"},
    {29, "microsoft/Phi-3.5-MoE-instruct", "4096 6400 32 32 8"},
    {30, "databricks/dbrx-{base,instruct}", "6144 40 48",
     R"("vocab_size": 100352, "max_seq_len": 32768, "attn_config": {"clip_qkv": 8, )"
     R"("kv_n_heads": 8, "rope_theta": 500000}, "ffn_config": {"ffn_hidden_size": 10752, )"
     R"("moe_num_experts": 16, "moe_top_k": 4})"},
};

}  // namespace

std::span<const PublishedFamily> published_families() { return kFamilies; }

std::span<const PublishedModel> published_models() { return kModels; }

}  // namespace sluice::launcher
