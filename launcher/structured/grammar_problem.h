// What is wrong with a text that says what an answer must look like.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace sluice::launcher {

/// A pattern, schema or grammar that cannot be followed: one sentence for the user, without the
/// field's name in front.
class GrammarProblem : public std::runtime_error {
 public:
  explicit GrammarProblem(const std::string& sentence, std::string keyword = "")
      : std::runtime_error(sentence), keyword_(std::move(keyword)) {}
  /// Of a JSON schema: the keyword at fault; empty: none.
  const std::string& keyword() const { return keyword_; }

 private:
  std::string keyword_;
};

}  // namespace sluice::launcher
