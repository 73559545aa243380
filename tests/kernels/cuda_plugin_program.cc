// Makes the engine of the device named by its argument and says what it is, as the program does:
// one sentence and an exit status for what went wrong.
#include <iostream>

#include "kernels/device/error.h"
#include "kernels/engine.h"

int main(int argc, char** argv) {
  try {
    sluice::kernels::EngineOptions options;
    options.device = argc > 1 ? argv[1] : "auto";
    options.threads = 1;
    const sluice::kernels::Engine engine = sluice::kernels::make_engine(options);
    std::cout << engine.backend->info().description << '\n';
    return 0;
  } catch (const sluice::Error& error) {
    std::cerr << "sluice: " << error.what() << '\n';
    return static_cast<int>(error.status());
  }
}
