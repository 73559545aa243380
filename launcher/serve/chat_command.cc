#include "launcher/serve/chat_command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <ostream>
#include <thread>

#include "launcher/generate/job_source.h"
#include "launcher/serve/conversation.h"
#include "launcher/serve/served_model.h"
#include "launcher/serve/terminal.h"

namespace sluice::launcher {
namespace {

/// The system's message: --system, or the text of --persona.
std::string system_of(const ServeArguments& arguments) {
  if (arguments.persona_file.empty()) return arguments.system;
  std::ifstream file(arguments.persona_file, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file) {
    throw InputError(fmt::format("--persona {}: cannot be read: {}", arguments.persona_file,
                                 std::strerror(errno)));
  }
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

class ChatSource final : public JobSource {
 public:
  ChatSource(const RunConfig& config, const ServeArguments& arguments, const OpenedModel& model,
             std::ostream& out)
      : served_(config, arguments, model), system_(system_of(arguments)), out_(out) {
    served_.chat.check();
  }
  ~ChatSource() override { end(); }

  stage::Job& job() override { return served_.job; }
  JobScan scan() const override { return served_.scan(); }
  bool shows_progress() const override { return false; }
  void start(int) override {
    terminal_.emplace();
    person_ = std::thread([this] { talk(); });
  }
  bool finish() override {
    end();
    return false;
  }

 private:
  void talk() {
    Conversation conversation(served_, system_, out_);
    const auto wait = [this](int done) { return terminal_->wait(done); };
    while (const std::optional<std::string> line = terminal_->read_line("> ")) {
      if (!conversation.take(*line, wait)) break;
    }
    served_.job.drain();
  }
  void end() {
    served_.job.fail_all("the run has ended");
    if (terminal_) terminal_->stop();
    if (person_.joinable()) person_.join();
    terminal_.reset();
  }

  ServedModel served_;
  const std::string system_;
  std::ostream& out_;
  std::optional<Terminal> terminal_;
  std::thread person_;
};

}  // namespace

ExitStatus chat(const RunConfig& config, const ServeArguments& arguments, DryRun dry_run,
                const std::string& command_line,
                const std::function<void(const std::string& sentence)>& say, std::ostream& out) {
  JobHooks hooks;
  hooks.make_source = [&](const RunConfig& used, const OpenedModel& model, bool) {
    return std::make_unique<ChatSource>(used, arguments, model, out);
  };
  hooks.advice = "the conversation is not kept";
  return generate(config, dry_run, command_line, say, hooks);
}

}  // namespace sluice::launcher
