#include "launcher/serve/pooled_answer.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <utility>

#include "launcher/jobs/score_form.h"
#include "launcher/serve/http_text.h"

namespace sluice::launcher {
namespace {

/// The lowest byte first, on any machine.
std::string bytes_of(std::span<const float> values) {
  std::string bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xFFU);
  }
  return bytes;
}

/// Of rows without answers.
Json prompt_usage(const WholeExchange::Rows& rows) {
  std::size_t tokens = 0;
  for (const auto& row : rows) {
    tokens += row->row.prompt.size();
    for (const Choice& choice : row->row.choices) tokens += choice.tokens.size();
  }
  return {{"prompt_tokens", tokens}, {"completion_tokens", 0}, {"total_tokens", tokens}};
}

double cosine(std::span<const float> left, std::span<const float> right) {
  const std::vector<float> a = normalized(left);
  const std::vector<float> b = normalized(right);
  return std::inner_product(
      a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
      [](float x, float y) { return static_cast<double>(x) * static_cast<double>(y); });
}

}  // namespace

std::vector<float> normalized(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  std::vector<float> result(values.begin(), values.end());
  if (sum == 0) return result;
  const double length = std::sqrt(sum);
  for (float& value : result) value = static_cast<float>(static_cast<double>(value) / length);
  return result;
}

Json embedding_answer(const EmbeddingForm& form, const CompletionName& name,
                      const WholeExchange::Rows& rows) {
  Json data = Json::array();
  for (const auto& row : rows) {
    std::vector<float> values = row->answers.front().embedding();
    if (form.normalize) values = normalized(values);
    data.push_back(
        {{"object", "embedding"},
         {"index", data.size()},
         {"embedding", form.base64 ? Json(encode_base64(bytes_of(values))) : Json(values)}});
  }
  Json answer = head_of(name, "list");
  answer["data"] = std::move(data);
  answer["usage"] = prompt_usage(rows);
  return answer;
}

Json score_answer(const ScoreForm& form, const CompletionName& name,
                  const WholeExchange::Rows& rows) {
  if (form.choices) {
    Json answer = head_of(name, "score");
    for (auto& [member, value] : score_members(rows.front()->answers)) {
      answer[member] = std::move(value);
    }
    return answer;
  }
  const auto embedding = [&rows](std::size_t row) -> const std::vector<float>& {
    return rows[row]->answers.front().embedding();
  };
  Json data = Json::array();
  for (std::size_t i = 0; i + form.firsts < rows.size(); ++i) {
    const std::size_t first = form.firsts == 1 ? 0 : i;
    data.push_back({{"index", i},
                    {"object", "score"},
                    {"score", cosine(embedding(first), embedding(form.firsts + i))}});
  }
  Json answer = head_of(name, "list");
  answer["data"] = std::move(data);
  answer["usage"] = prompt_usage(rows);
  return answer;
}

}  // namespace sluice::launcher
