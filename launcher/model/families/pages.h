// The pages of this folder, one family each.
#pragma once

#include "launcher/model/family.h"

namespace sluice::launcher {

const Family& bloom_family();
const Family& codegen_family();
const Family& dbrx_family();
const Family& falcon_family();
const Family& gemma2_family();
const Family& gemma3_family();  // inside a config.json that also has a vision part
const Family& gemma3_text_family();
const Family& glm_family();
const Family& glm4_family();
const Family& glm4_moe_family();
const Family& gpt2_family();
const Family& gpt_neox_family();
const Family& gptj_family();
const Family& granitemoe_family();
const Family& llama_family();
const Family& mistral_family();
const Family& mixtral_family();
const Family& olmoe_family();
const Family& opt_family();
const Family& phi3_family();
const Family& phimoe_family();
const Family& qwen2_family();
const Family& qwen2_moe_family();
const Family& qwen3_family();
const Family& qwen3_moe_family();
const Family& yalm_family();

/// Those of GGUF files; a model_type is a general.architecture.
const Families& gguf_families();

}  // namespace sluice::launcher
