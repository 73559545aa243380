#include "launcher/score/accuracy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "launcher/jobs/finished_rows.h"
#include "launcher/json/json.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

/// The index of the choice that is likeliest for its length; of equal ones the first.
std::size_t best_by_length(const Json& scores) {
  std::size_t best = 0;
  double greatest = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const std::string& text = scores[i].at("text").text();
    const std::size_t blank = text.starts_with(' ') ? 1 : 0;
    const std::size_t characters = count_characters(std::string_view(text).substr(blank));
    const double score = scores[i].at("logprob").number() /
                         static_cast<double>(std::max<std::size_t>(characters, 1));
    if (i > 0 && score <= greatest) continue;
    best = i;
    greatest = score;
  }
  return best;
}

}  // namespace

double RightShare::mean() const {
  return static_cast<double>(right_) / static_cast<double>(count_);
}

double RightShare::error() const {
  // Of zeros and ones the sum of squared differences is n * mean * (1 - mean).
  const double part = mean();
  return std::sqrt(part * (1 - part) / static_cast<double>(count_ - 1));
}

std::string RightShare::text() const {
  return count_ < 2 ? fmt::format("{:.4f}", mean())
                    : fmt::format("{:.4f} ± {:.4f}", mean(), error());
}

void Accuracy::add(std::string_view record) {
  const auto facts = facts_of(record);
  if (!facts) return;
  const Json row = Json::parse_or_null(record);
  if (facts->kind != RecordKind::answer) {
    failures_[facts->key] = row.at("error").at("message").text();
    return;
  }
  failures_.erase(facts->key);
  const Json& gold = row.member("fields").member("gold");
  const Json& best = row.member("best");
  if (!gold.is_integer() || !best.is_integer()) return;  // of another job
  plain_.add(best == gold);
  by_length_.add(Json(best_by_length(row.at("scores"))) == gold);
}

std::string Accuracy::failure() const {
  return failures_.empty() ? std::string() : failures_.begin()->second;
}

std::string accuracy_text(const Accuracy& accuracy) {
  std::string text = fmt::format("questions  {}\n", accuracy.plain().count());
  if (accuracy.failed() > 0) text += fmt::format("failed     {}\n", accuracy.failed());
  if (accuracy.plain().count() == 0) return text;
  return text + fmt::format("acc        {}\nacc_norm   {}\n", accuracy.plain().text(),
                            accuracy.by_length().text());
}

}  // namespace sluice::launcher
