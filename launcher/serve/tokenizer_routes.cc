#include "launcher/serve/tokenizer_routes.h"

#include <fmt/format.h>

#include "launcher/jobs/row_fields.h"
#include "launcher/serve/api_error.h"
#include "launcher/tokenizer/utf8.h"

namespace sluice::launcher {
namespace {

/// The text that is asked for, and whether it gets special tokens where nothing says so.
struct Asked {
  std::string text;
  bool add_special = true;
};

Asked asked_of(const ServedModel& served, const Json& body) {
  if (body.member("messages").is_null()) {
    const auto prompt = RowFields(body).text("prompt");
    if (!prompt) throw RowProblem{"there is neither a prompt nor messages", "prompt"};
    return {*prompt};
  }
  Json row = body;
  row["messages"] = with_plain_contents(body.member("messages"));
  try {
    return {served.chat.render(read_chat(row)), false};
  } catch (const ChatFieldError& problem) {
    throw RowProblem{problem.what(), problem.field};
  } catch (const InputError& problem) {
    throw RowProblem{problem.what(), "messages"};
  }
}

Json text_of(const Tokenizer& tokenizer, std::int32_t id) {
  return id < 0 ? Json() : Json(replace_broken(tokenizer.token_bytes(id)));
}

/// Runs `work`, whose problems become ApiErrors.
template <class Work>
Json answered(const Work& work) {
  try {
    return work();
  } catch (const RowProblem& problem) {
    throw ApiError{400, problem.message, problem.param};
  } catch (const InputError& problem) {  // of the tokenizer
    throw ApiError{400, problem.what()};
  }
}

}  // namespace

Json tokenize_answer(const ServedModel& served, const Json& body) {
  return answered([&] {
    const Asked asked = asked_of(served, body);
    const RowFields fields(body);
    const auto ids = served.tokenizer.encode(
        asked.text, fields.boolean("add_special_tokens").value_or(asked.add_special));
    Json answer = {
        {"count", ids.size()}, {"max_model_len", served.limits.positions}, {"tokens", ids}};
    if (fields.boolean("return_token_strs").value_or(false)) {
      Json texts = Json::array();
      for (const std::int32_t id : ids) texts.push_back(text_of(served.tokenizer, id));
      answer["token_strs"] = std::move(texts);
    }
    return answer;
  });
}

Json detokenize_answer(const ServedModel& served, const Json& body) {
  return answered([&] {
    const auto ids = RowFields(body).ids("tokens", served.limits.vocabulary);
    if (!ids) throw RowProblem{"there are no tokens", "tokens"};
    return Json({{"prompt", served.tokenizer.decode(*ids, false)}});
  });
}

Json tokenizer_info(const ServedModel& served) {
  const Tokenizer& tokenizer = served.tokenizer;
  return {{"tokenizer_class", "sluice"},
          {"model_max_length", served.limits.positions},
          {"vocab_size", served.limits.vocabulary},
          {"bos_token", text_of(tokenizer, tokenizer.bos())},
          {"eos_token", text_of(tokenizer, tokenizer.eos())},
          {"pad_token", text_of(tokenizer, tokenizer.pad())}};
}

}  // namespace sluice::launcher
