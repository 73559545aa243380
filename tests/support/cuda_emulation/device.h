// Emulated GPUs: how many, how large, which of them is current, and which are broken. Set by
// environment variables, read once:
//   SLUICE_EMULATED_GPUS        how many (1)
//   SLUICE_EMULATED_GPU_MIB     memory of each, per process (2048)
//   SLUICE_EMULATED_CAPABILITY  compute capability, 75 to 120 (90)
//   SLUICE_EMULATED_INSTANCES   1: they are instances of one GPU, with one PCI id (MIG)
//   SLUICE_EMULATED_SEED        seed of the order in which threads and blocks run (0: ascending)
//   SLUICE_EMULATED_STREAM_MEMORY_OPERATIONS  0: streams cannot wait for words of 64 bits (1)
//   SLUICE_EMULATED_LATE        1: work on a stream starts only when somebody waits for it (or
//                               after 20 ms), as late as a GPU ever could: a wait that is missing
//                               shows as bytes that are not there yet
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace sluice::emulated {

struct Settings {
  int devices = 1;
  std::size_t device_bytes = 0;
  int capability = 90;
  unsigned seed = 0;
  bool late = false;
  bool stream_memory_operations = true;
  bool instances = false;
};
const Settings& settings();

/// Most dynamic shared memory that cudaFuncSetAttribute allows on the emulated capability.
int most_shared_bytes();

/// Of the calling thread; 0 in a thread that has not chosen.
int current_device();

/// `device` answers every call with cudaErrorLaunchFailure from now on. Prints why.
void break_device(int device, const std::string& why);
bool is_broken(int device);

/// The status, which becomes the calling thread's last error unless it is cudaSuccess. Prints
/// `why`, if there is one: for what a GPU would refuse with no more than a code.
cudaError_t answer(cudaError_t status, const std::string& why = {});

/// cudaErrorLaunchFailure where the current device is broken; else cudaSuccess.
cudaError_t state_of_device();

/// Lets the calling thread touch memory of this device, where the processor can tell (memory
/// protection keys): host code and other devices' streams then crash on it, as with a real GPU.
void enter_device(int device);

/// Opens memory of all devices to the calling thread, for a copy, or closes it, for a host
/// function, until it ends.
class Access {
 public:
  explicit Access(bool open);
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;

 private:
  unsigned before_ = 0;
};

/// The protection key of a device's memory; -1: there are none.
int key_of(int device);

}  // namespace sluice::emulated
