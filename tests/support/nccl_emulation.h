// NCCL as far as comm/nccl/ uses it, between threads or processes of one host, over Unix sockets.
// Its work runs on emulated streams (cuda_emulation/stream.h).
//
// As NCCL does, it answers ncclInProgress to what it has only begun, and refuses the next call
// until it was asked whether that is done; holds a stream until a message is through; holds it for
// ever, with an error to be asked for, when the other rank has gone; and lets it go only when
// aborted. What it should do worse is said by environment variables, because it may sit in another
// process:
//   SLUICE_EMULATED_NCCL_FAILS=NAME:CODE   the call NAME returns CODE
//   SLUICE_EMULATED_NCCL_BREAKS=N:CODE     the N-th message of a communicator breaks it with CODE
#pragma once

namespace sluice::support {

/// Communicators of this process that ended well, and that were aborted.
int nccl_destroyed();
int nccl_aborted();

}  // namespace sluice::support
