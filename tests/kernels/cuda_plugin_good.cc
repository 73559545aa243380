// A plugin that works: the CPU engine of the program that loads it, behind a backend whose code
// lies in the plugin, as the code of a real one does.
#include <memory>
#include <utility>

#include "kernels/cuda_plugin.h"

namespace {

using namespace sluice;

class PluginBackend : public Backend {
 public:
  explicit PluginBackend(std::unique_ptr<Backend> inner)
      : inner_(std::move(inner)), info_(inner_->info()) {
    info_.kind = "plugin";
    info_.description = "plugin on " + info_.description;
  }
  const BackendInfo& info() const override { return info_; }
  Memory allocate_device(std::size_t bytes) override { return inner_->allocate_device(bytes); }
  Memory allocate_host(std::size_t bytes, bool pinned) override {
    return inner_->allocate_host(bytes, pinned);
  }
  void copy(Lane lane, void* target, const void* source, std::size_t bytes) override {
    inner_->copy(lane, target, source, bytes);
  }
  void call(Lane lane, void (*function)(void*), void* argument) override {
    inner_->call(lane, function, argument);
  }
  Event record(Lane lane) override { return inner_->record(lane); }
  void wait(Lane lane, Event event) override { inner_->wait(lane, event); }
  void expect_stall(Activity why) override { inner_->expect_stall(why); }
  bool done(Event event) override { return inner_->done(event); }
  void synchronize(Event event) override { inner_->synchronize(event); }

 private:
  std::unique_ptr<Backend> inner_;
  BackendInfo info_;
};

}  // namespace

namespace sluice::kernels {

int sluice_engine_abi() noexcept { return kEngineAbi; }

bool sluice_make_engine(const EngineOptions* options, Engine* engine, char*, std::size_t) {
  // A real plugin has its own copy of this; the fake takes the loading program's.
  *engine = make_cpu_engine(*options);
  engine->backend = std::make_unique<PluginBackend>(std::move(engine->backend));
  return true;
}

}  // namespace sluice::kernels
