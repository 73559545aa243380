#include "launcher/tokenizer/normalizer.h"

#include <fmt/format.h>

#include <utility>

#include "launcher/tokenizer/regex.h"
#include "launcher/tokenizer/unicode.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

class Form final : public Normalizer {
 public:
  explicit Form(NormalForm form) : form_(form) {}
  void apply(std::string& text) const override { form_.apply(text); }

 private:
  UnicodeNormalizer form_;
};

class ReplaceText final : public Normalizer {
 public:
  ReplaceText(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(std::string& text) const override {
    std::size_t found = text.find(pattern_);
    if (found == std::string::npos) return;
    std::string made;
    made.reserve(text.size() + text.size() / 2);
    std::size_t at = 0;
    for (; found != std::string::npos; found = text.find(pattern_, at)) {
      made.append(text, at, found - at);
      made += content_;
      at = found + pattern_.size();
    }
    made.append(text, at);
    text = std::move(made);
  }

 private:
  std::string pattern_;
  std::string content_;
};

class ReplaceRegex final : public Normalizer {
 public:
  ReplaceRegex(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(std::string& text) const override {
    std::string made;
    std::size_t at = 0;
    bool any = false;
    pattern_.each(text, [&](Regex::Match match) {
      made.append(text, at, match.begin - at);
      made += content_;
      at = match.end;
      any = true;
    });
    if (!any) return;
    made.append(text, at);
    text = std::move(made);
  }

 private:
  Regex pattern_;
  std::string content_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string content) : content_(std::move(content)) {}
  void apply(std::string& text) const override {
    if (!text.empty()) text.insert(0, content_);
  }

 private:
  std::string content_;
};

class LowerCase final : public Normalizer {
 public:
  void apply(std::string& text) const override { text = lower_case(text); }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void apply(std::string& text) const override {
    std::string_view rest = text;
    while (left_ && !rest.empty() && is_white_space(first_character(rest))) {
      rest.remove_prefix(first_part(rest).bytes);
    }
    while (right_ && !rest.empty() && is_white_space(first_character(last_part(rest)))) {
      rest.remove_suffix(last_part(rest).size());
    }
    if (rest.size() < text.size()) text = std::string(rest);
  }

 private:
  bool left_;
  bool right_;
};

class StripAccents final : public Normalizer {
 public:
  void apply(std::string& text) const override {
    std::string made;
    made.reserve(text.size());
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t bytes = first_part(rest).bytes;
      if (!marks().contains(first_character(rest))) made += rest.substr(0, bytes);
      rest.remove_prefix(bytes);
    }
    text = std::move(made);
  }
};

class Sequence final : public Normalizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<const Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void apply(std::string& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> steps_;
};

std::unique_ptr<const Normalizer> make_step(const NormalizerStep& step, const std::string& where) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::nfc:
      return std::make_unique<Form>(NormalForm::nfc);
    case Kind::nfd:
      return std::make_unique<Form>(NormalForm::nfd);
    case Kind::nfkc:
      return std::make_unique<Form>(NormalForm::nfkc);
    case Kind::nfkd:
      return std::make_unique<Form>(NormalForm::nfkd);
    case Kind::replace:
      if (!step.pattern.is_regex) {
        return std::make_unique<ReplaceText>(step.pattern.text, step.content);
      }
      return std::make_unique<ReplaceRegex>(Regex(step.pattern.text, where), step.content);
    case Kind::prepend:
      return std::make_unique<Prepend>(step.content);
    case Kind::lowercase:
      return std::make_unique<LowerCase>();
    case Kind::strip:
      return std::make_unique<Strip>(step.left, step.right);
    case Kind::strip_accents:
      return std::make_unique<StripAccents>();
  }
  return nullptr;
}

std::string describe(const NormalizerStep& step) {
  using Kind = NormalizerStep::Kind;
  switch (step.kind) {
    case Kind::nfc:
      return "NFC";
    case Kind::nfd:
      return "NFD";
    case Kind::nfkc:
      return "NFKC";
    case Kind::nfkd:
      return "NFKD";
    case Kind::replace:
      return fmt::format("{} \"{}\" becomes \"{}\"", step.pattern.is_regex ? "pattern" : "text",
                         step.pattern.text, step.content);
    case Kind::prepend:
      return fmt::format("\"{}\" in front", step.content);
    case Kind::lowercase:
      return "lower case";
    case Kind::strip:
      return fmt::format("no blanks at {}", !step.right  ? "the beginning"
                                            : !step.left ? "the end"
                                                         : "the ends");
    case Kind::strip_accents:
      return "no accents";
  }
  return {};
}

}  // namespace

std::unique_ptr<const Normalizer> make_normalizer(const std::vector<NormalizerStep>& steps,
                                                  const std::string& where) {
  std::vector<std::unique_ptr<const Normalizer>> made;
  for (const NormalizerStep& step : steps) made.push_back(make_step(step, where));
  if (made.empty()) return nullptr;
  if (made.size() == 1) return std::move(made.front());
  return std::make_unique<Sequence>(std::move(made));
}

std::string describe(const std::vector<NormalizerStep>& steps) {
  std::string text;
  for (const NormalizerStep& step : steps) text += (text.empty() ? "" : ", ") + describe(step);
  return text.empty() ? "none" : text;
}

}  // namespace sluice::launcher
