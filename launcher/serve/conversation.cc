#include "launcher/serve/conversation.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <ostream>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/device/error.h"
#include "launcher/serve/api_error.h"

namespace sluice::launcher {
namespace {

constexpr const char* kHelp =
    "/system TEXT  begin anew, with TEXT as the system's message (without it: with none)\n"
    "/reset        begin anew\n"
    "/save FILE    write the messages so far, as JSON\n"
    "/quit         end (or Ctrl-D); Ctrl-C stops an answer\n";

/// Prints an answer as it grows, and rings when it is over.
class PrintedAnswer final : public Exchange {
 public:
  explicit PrintedAnswer(std::ostream& out) : out_(out), done_(::eventfd(0, EFD_CLOEXEC)) {
    if (done_ < 0) throw IoError(fmt::format("eventfd: {}", std::strerror(errno)));
  }
  ~PrintedAnswer() override { ::close(done_); }

  void on_begin() override {}
  void on_token(const RowWork& work, std::size_t, std::size_t part) override {
    const std::string& whole = work.answers[part].text();
    out_ << whole.substr(text_.size()) << std::flush;
    text_ = whole;
  }
  void on_row_done(std::size_t, std::unique_ptr<RowWork>) override { ring(); }
  void on_failed(const std::string& why) override {
    failure_ = why;
    ring();
  }

  int done() const { return done_; }
  // After that, or after the job has dropped it:
  const std::string& text() const { return text_; }
  const std::string& failure() const { return failure_; }

 private:
  void ring() { static_cast<void>(::eventfd_write(done_, 1)); }

  std::ostream& out_;
  const int done_;
  std::string text_;
  std::string failure_;
};

}  // namespace

Conversation::Conversation(ServedModel& served, std::string system, std::ostream& out)
    : served_(served), system_(std::move(system)), out_(out) {
  reset();
}

void Conversation::reset() {
  messages_ = Json::array();
  if (!system_.empty()) messages_.push_back({{"role", "system"}, {"content", system_}});
}

bool Conversation::take(const std::string& line, const Wait& wait) {
  if (line.find_first_not_of(" \t\r") == std::string::npos) return true;
  if (line.starts_with('/')) return command(line);
  messages_.push_back({{"role", "user"}, {"content", line}});
  answer(wait);
  return true;
}

bool Conversation::command(const std::string& line) {
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string name = line.substr(0, end);
  const std::size_t begin = std::min(line.find_first_not_of(' ', end), line.size());
  const std::string rest = line.substr(begin);
  if (name == "/quit") return false;
  if (name == "/system") {
    system_ = rest;
    reset();
  } else if (name == "/reset") {
    reset();
  } else if (name == "/save" && !rest.empty()) {
    save(rest);
  } else if (name == "/help") {
    out_ << kHelp << std::flush;
  } else {
    out_ << fmt::format("there is no command {}; there are:\n{}", name, kHelp) << std::flush;
  }
  return true;
}

void Conversation::save(const std::string& file) {
  std::ofstream out(file);
  out << Json({{"messages", messages_}}).dump(2) << '\n';
  out.close();
  out_ << (out ? fmt::format("{} messages are in {}\n", messages_.size(), file)
               : fmt::format("{}: cannot be written: {}\n", file, std::strerror(errno)))
       << std::flush;
}

std::optional<RequestRow> Conversation::row() {
  try {
    CompletionRequest request = served_.parser.parse(
        {{"messages", messages_}}, CompletionKind::chat, fmt::format("chat-{}", turns_++));
    return std::move(request.rows.front());
  } catch (const ApiError& error) {
    out_ << fmt::format("{} (/reset begins anew)\n", error.message) << std::flush;
    return {};
  }
}

void Conversation::answer(const Wait& wait) {
  std::optional<RequestRow> asked = row();
  const auto forget_question = [this] {
    Json kept = Json::array();
    for (std::size_t i = 0; i + 1 < messages_.size(); ++i) kept.push_back(messages_[i]);
    messages_ = std::move(kept);
  };
  if (!asked) return forget_question();
  const auto printed = std::make_shared<PrintedAnswer>(out_);
  std::vector<RequestRow> rows;
  rows.push_back(std::move(*asked));
  if (served_.job.submit(printed, std::move(rows)) != ServeJob::Admission::taken) {
    return forget_question();
  }
  if (wait(printed->done())) served_.job.drop(*printed);
  out_ << '\n';
  if (!printed->failure().empty()) out_ << printed->failure() << '\n';
  out_ << std::flush;
  messages_.push_back({{"role", "assistant"}, {"content", printed->text()}});
}

}  // namespace sluice::launcher
