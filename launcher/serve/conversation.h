// A chat with the model, turn by turn, and the commands that a person gives beside it.
#pragma once

#include <atomic>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>

#include "launcher/json/json.h"
#include "launcher/serve/served_model.h"

namespace sluice::launcher {

class Conversation {
 public:
  /// Waits until the descriptor can be read; true: the answer is to be stopped.
  using Wait = std::function<bool(int done)>;

  /// References must outlive it. `system`: the first message; empty: there is none.
  Conversation(ServedModel& served, std::string system, std::ostream& out);

  /// Takes one line: a command, or what the model is to answer, which it prints as it comes.
  /// Returns false where the person wants to end.
  bool take(const std::string& line, const Wait& wait);

 private:
  bool command(const std::string& line);
  void save(const std::string& file);
  void reset();
  void answer(const Wait& wait);
  /// The row of the messages so far; nothing: it says why.
  std::optional<RequestRow> row();

  ServedModel& served_;
  std::string system_;
  std::ostream& out_;
  Json messages_ = Json::array();
  int turns_ = 0;
};

}  // namespace sluice::launcher
