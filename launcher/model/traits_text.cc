#include "launcher/model/traits_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::launcher {

namespace {

using Words = std::vector<std::string>;

void add_norms(const stage::DecoderConfig& model, Words& words) {
  const stage::NormTraits& norm = model.norm;
  const bool is_rms = norm.kind == stage::NormKind::rms;
  if (is_rms) {
    words.emplace_back(norm.weight_offset != 0 ? "RMS norms, weights counted from 1" : "RMS norms");
  }
  const char* const kind = is_rms ? "norm" : "layer norm";
  if (norm.place == stage::NormPlace::after) {
    words.push_back(fmt::format("{} after attention and ffn (post-norm)", kind));
  }
  if (norm.place == stage::NormPlace::around) {
    words.push_back(fmt::format("{} before and after attention and ffn", kind));
  }
  if (norm.place == stage::NormPlace::before && !model.head.norm) {
    words.emplace_back("no final layer norm");
  }
  if (!norm.affine) words.emplace_back("layer norms without weights");
  if (!norm.in_first_layer) words.emplace_back("no norm before the first layer's attention");
  if (model.residual == stage::Residual::parallel) {
    words.emplace_back("attention and ffn in parallel, a norm for each");
  }
  if (model.residual_scale != 1.0F) {
    words.push_back(fmt::format("what blocks add is scaled by {}", model.residual_scale));
  }
  if (model.residual == stage::Residual::parallel_one_norm) {
    words.emplace_back("attention and ffn in parallel behind one norm");
  }
}

void add_embedding(const stage::DecoderConfig& model, Words& words) {
  const stage::EmbeddingTraits& embedding = model.embedding;
  if (model.projects_embedding()) {
    words.push_back(
        fmt::format("embeddings of {} projected to {} and back", embedding.width, model.hidden));
  } else if (model.projected()) {
    words.push_back(
        fmt::format("embeddings of {} filled up with zeros to {}", embedding.width, model.hidden));
  }
  if (embedding.norm) words.emplace_back("norm of the embedding");
  if (embedding.scale != 1.0F) words.push_back(fmt::format("embedding times {}", embedding.scale));
}

void add_positions(const stage::DecoderConfig& model, Words& words) {
  const stage::PositionTraits& positions = model.positions;
  if (positions.kind == stage::PositionKind::alibi) {
    words.emplace_back("scores that fall with the distance (ALiBi)");
  }
  if (positions.kind != stage::PositionKind::rotary) return;
  const stage::RotaryTraits& first = positions.rotary.front();
  std::string text = "rotary positions";
  if (first.width < model.attention.head_width) {
    text += fmt::format(" on {} of {} elements", first.width, model.attention.head_width);
  }
  if (first.neighbours) text += ", by neighbours";
  if (first.factor != 1.0F) text += fmt::format(", times {:.4g}", first.factor);
  if (!first.long_frequencies.empty()) {
    text += fmt::format(", others for sequences of more than {} tokens", first.long_after);
  }
  if (positions.rotary.size() > 1) text += ", a base of its own in windowed layers";
  words.push_back(text);
}

void add_attention(const stage::DecoderConfig& model, Words& words) {
  const stage::AttentionTraits& attention = model.attention;
  if (attention.query_key_norm) {
    words.emplace_back(attention.whole_norm ? "norms of query and key, over all heads"
                                            : "norms of query and key");
  }
  const auto windowed = std::ranges::count_if(attention.windows, [](int w) { return w > 0; });
  if (windowed > 0) {
    words.push_back(fmt::format("window of {} tokens in {} of {} layers",
                                *std::ranges::max_element(attention.windows), windowed,
                                model.layers));
  }
  if (attention.clip > 0) {
    words.push_back(fmt::format("queries, keys and values within {}", attention.clip));
  }
  if (attention.scale_by_layer) words.emplace_back("scores divided by the layer's number");
  if (attention.soft_cap > 0) {
    words.push_back(fmt::format("scores capped at {}", attention.soft_cap));
  }
}

void add_mlp(const stage::DecoderConfig& model, Words& words) {
  const char* activation = "";
  switch (model.mlp.activation) {
    case kernels::Activation::none:
      break;
    case kernels::Activation::relu:
      if (model.mlp.gated) activation = "relu";
      break;
    case kernels::Activation::gelu:
      activation = "gelu";
      break;
    case kernels::Activation::gelu_tanh:
      activation = "gelu (tanh form)";
      break;
    case kernels::Activation::quick_gelu:
      activation = "gelu (sigmoid form)";
      break;
    case kernels::Activation::silu:
      activation = "silu";
      break;
  }
  if (model.mlp.gated) {
    words.push_back(fmt::format("gated ffn with {}", activation));
  } else if (*activation != '\0') {
    words.emplace_back(activation);
  }
  const bool inputs = model.attention.query_key_value_bias;
  const bool output = model.attention.output_bias;
  if (inputs && output && model.mlp.bias) return;
  if (!inputs && !output) {
    words.emplace_back(model.mlp.bias ? "biases on the ffn only" : "no biases");
  } else {
    words.push_back(fmt::format("biases on query, key{} value{}{}", output ? "," : " and",
                                output ? " and attention's output" : "",
                                model.mlp.bias ? ", and on the ffn" : " only"));
  }
}

void add_mixture(const stage::DecoderConfig& model, Words& words) {
  const stage::MixtureTraits& mixture = model.mixture;
  if (mixture.experts == 0) return;
  std::string text = fmt::format("{} experts of {}, {} for each token", mixture.experts,
                                 mixture.width, mixture.router.chosen);
  if (mixture.router.groups > 1) {
    text +=
        fmt::format(" out of {} of {} groups", mixture.router.kept_groups, mixture.router.groups);
  }
  if (mixture.shared_width > 0)
    text += fmt::format(", and one of {} for all", mixture.shared_width);
  const auto with = std::ranges::count_if(mixture.layers, [](char has) { return has != 0; });
  if (!mixture.layers.empty() && with < model.layers) {
    text += fmt::format(", in {} of {} layers", with, model.layers);
  }
  words.push_back(text);
}

void add_head(const stage::DecoderConfig& model, Words& words) {
  if (!model.head.tied) words.emplace_back("output head of its own");
  if (model.head.dense_projection) words.emplace_back("a layer of its own before the output head");
  if (model.head.bias) words.emplace_back("bias on the output head");
  if (model.head.scale != 1.0F) words.push_back(fmt::format("logits times {}", model.head.scale));
  if (model.head.soft_cap > 0)
    words.push_back(fmt::format("logits capped at {}", model.head.soft_cap));
}

}  // namespace

Words traits_in_words(const stage::DecoderConfig& model) {
  Words words;
  add_norms(model, words);
  add_embedding(model, words);
  add_positions(model, words);
  add_attention(model, words);
  add_mlp(model, words);
  add_mixture(model, words);
  add_head(model, words);
  return words;
}

}  // namespace sluice::launcher
