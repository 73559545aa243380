// The only file that knows MPI.
#include "comm/mpi_transport.h"

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>

#include "comm/launch.h"
#include "comm/network.h"
#include "comm/start_watch.h"

namespace sluice::comm {
namespace {

constexpr std::chrono::seconds kLeastStartPatience{10};

std::string text_of(int code) {
  std::array<char, MPI_MAX_ERROR_STRING> text = {};
  int length = 0;
  if (MPI_Error_string(code, text.data(), &length) != MPI_SUCCESS) return "unknown error";
  return text.data();
}

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  throw Error(ExitStatus::failure,
              fmt::format("{} failed: {}; look for a broken network or a full /dev/shm.", call,
                          text_of(code)));
}

int class_of(int code) {
  int error_class = MPI_ERR_UNKNOWN;
  check(MPI_Error_class(code, &error_class), "MPI_Error_class");
  return error_class;
}

/// A duplicate of MPI_COMM_WORLD, which no other code sends messages on. It returns errors, as
/// MPI_COMM_WORLD does.
void duplicate_world(MPI_Comm* communicator) {
  check(MPI_Comm_dup(MPI_COMM_WORLD, communicator), "MPI_Comm_dup");
}

void release(MPI_Comm* communicator) {
  if (*communicator != MPI_COMM_NULL) MPI_Comm_free(communicator);
}

/// For the end, when all ranks are in the destructor: no message under way can still be completed,
/// and no error matters.
void drop(MPI_Request& request, bool receiving) {
  if (request == MPI_REQUEST_NULL) return;
  if (receiving) MPI_Cancel(&request);
  MPI_Request_free(&request);
}

}  // namespace

struct MpiTransport::Parts {
  struct ActiveChunk {
    int slot = -1;
    int bytes = 0;
    bool sending = false;
  };
  struct Outgoing {
    ControlBytes bytes = {};
    MPI_Request request = MPI_REQUEST_NULL;
  };

  Parts() { routes.fill(MPI_COMM_NULL); }

  int rank = 0;
  int size = 1;
  int local_rank = 0;
  int ranks_on_host = 1;
  bool one_host = false;  // as the launcher says
  MPI_Comm host = MPI_COMM_NULL;
  // By Route: messages of one route never wait behind those of another.
  std::array<MPI_Comm, kRouteCount> routes = {};
  MPI_Comm control = MPI_COMM_NULL;
  MPI_Comm collectives = MPI_COMM_NULL;

  // The chunks under way, dense: [0, active_count) of requests and active.
  std::array<MPI_Request, TransferTable::kCapacity> requests = {};
  std::array<ActiveChunk, TransferTable::kCapacity> active = {};
  int active_count = 0;
  std::array<int, TransferTable::kCapacity> indices = {};
  std::array<MPI_Status, TransferTable::kCapacity> statuses = {};
  std::array<FinishedChunk, TransferTable::kCapacity> finished = {};

  MPI_Request collective = MPI_REQUEST_NULL;
  std::vector<Outgoing> outgoing;  // by target
  ControlBytes heard_bytes = {};
  MPI_Request heard = MPI_REQUEST_NULL;

  void open();
  void listen();
  FinishedChunk finish(const ActiveChunk& chunk, const MPI_Status& status, bool has_error);
  void close_gaps();
};

MpiTransport::MpiTransport() : parts_(std::make_unique<Parts>()) {
  int initialized = 0;
  check(MPI_Initialized(&initialized), "MPI_Initialized");
  if (initialized != 0) {
    throw Error(ExitStatus::failure,
                "MPI was started twice in one process, which it does not allow; make one world.");
  }
  const Launch launch = find_launch();  // a lone Open MPI changes the variables for its children
  parts_->one_host = launch.one_host;
  prepare_network(launch);
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
  try {
    check(MPI_Comm_rank(MPI_COMM_WORLD, &parts_->rank), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &parts_->size), "MPI_Comm_size");
    check_joined(launch, parts_->size);
    if (provided < MPI_THREAD_SERIALIZED) {
      throw ConfigError(
          "This MPI library does not support threads (MPI_THREAD_SERIALIZED); use an Open MPI that "
          "was built with them.");
    }
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  } catch (const Error&) {
    MPI_Finalize();
    throw;
  }
}

void MpiTransport::Parts::open() {
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(host, &local_rank), "MPI_Comm_rank");
  check(MPI_Comm_size(host, &ranks_on_host), "MPI_Comm_size");
  for (MPI_Comm& route : routes) duplicate_world(&route);
  duplicate_world(&control);
  duplicate_world(&collectives);
  requests.fill(MPI_REQUEST_NULL);
  outgoing.resize(static_cast<std::size_t>(size));
  listen();
}

MpiTransport::~MpiTransport() {
  Parts& parts = *parts_;
  for (int i = 0; i < parts.active_count; ++i) {
    const auto place = static_cast<std::size_t>(i);
    drop(parts.requests[place], !parts.active[place].sending);
  }
  for (Parts::Outgoing& outgoing : parts.outgoing) drop(outgoing.request, false);
  drop(parts.heard, true);
  for (MPI_Comm& route : parts.routes) release(&route);
  release(&parts.control);
  release(&parts.collectives);
  release(&parts.host);
  MPI_Finalize();
}

int MpiTransport::rank() const { return parts_->rank; }
int MpiTransport::size() const { return parts_->size; }
int MpiTransport::local_rank() const { return parts_->local_rank; }
int MpiTransport::ranks_on_host() const { return parts_->ranks_on_host; }

std::vector<Greeting> MpiTransport::meet(std::chrono::milliseconds deadline) {
  // A busy machine may need longer than a short deadline allows.
  const auto patience = std::max<std::chrono::milliseconds>(deadline, kLeastStartPatience);
  std::optional<StartWatch> watch;
  if (!parts_->one_host) watch.emplace(parts_->rank, patience);
  parts_->open();
  Greeting mine;
  mine.rank = parts_->rank;
  mine.host_leader = parts_->rank;
  mine.process = this_process();
  if (gethostname(mine.host.data(), mine.host.size() - 1) != 0) mine.host = {"localhost"};
  check(MPI_Bcast(&mine.host_leader, 1, MPI_INT, 0, parts_->host), "MPI_Bcast");
  std::vector<Greeting> all(static_cast<std::size_t>(parts_->size));
  check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE,
                      MPI_COMM_WORLD),
        "MPI_Allgather");
  return all;
}

void MpiTransport::host_barrier() { check(MPI_Barrier(parts_->host), "MPI_Barrier"); }

void MpiTransport::start(const Message& message, const Chunk& chunk) {
  const MPI_Comm route = parts_->routes[static_cast<std::size_t>(message.route)];
  const auto place = static_cast<std::size_t>(parts_->active_count);
  MPI_Request* request = &parts_->requests[place];
  if (message.sending) {
    check(MPI_Isend(chunk.data, chunk.bytes, MPI_BYTE, message.peer, 0, route, request),
          "MPI_Isend");
  } else {
    check(MPI_Irecv(chunk.data, chunk.bytes, MPI_BYTE, message.peer, 0, route, request),
          "MPI_Irecv");
  }
  parts_->active[place] = {chunk.slot, chunk.bytes, message.sending};
  ++parts_->active_count;
}

std::span<const FinishedChunk> MpiTransport::finished() {
  Parts& parts = *parts_;
  if (parts.active_count == 0) return {};
  int count = 0;
  const int code = MPI_Testsome(parts.active_count, parts.requests.data(), &count,
                                parts.indices.data(), parts.statuses.data());
  const bool has_errors = code != MPI_SUCCESS && class_of(code) == MPI_ERR_IN_STATUS;
  if (!has_errors) check(code, "MPI_Testsome");
  if (count == 0 || count == MPI_UNDEFINED) return {};
  const auto finished_count = static_cast<std::size_t>(count);
  for (std::size_t i = 0; i < finished_count; ++i) {
    const auto place = static_cast<std::size_t>(parts.indices[i]);
    parts.finished[i] = parts.finish(parts.active[place], parts.statuses[i], has_errors);
  }
  parts.close_gaps();
  return std::span<const FinishedChunk>(parts.finished.data(), finished_count);
}

FinishedChunk MpiTransport::Parts::finish(const ActiveChunk& chunk, const MPI_Status& status,
                                          bool has_error) {
  if (has_error && status.MPI_ERROR != MPI_SUCCESS) {
    if (class_of(status.MPI_ERROR) == MPI_ERR_TRUNCATE) return {chunk.slot, 0, true};
    check(status.MPI_ERROR, chunk.sending ? "MPI_Isend" : "MPI_Irecv");
  }
  int bytes = chunk.bytes;
  if (!chunk.sending) check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  return {chunk.slot, static_cast<std::size_t>(bytes), false};
}

void MpiTransport::Parts::close_gaps() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(active_count); ++i) {
    if (requests[i] == MPI_REQUEST_NULL) continue;
    requests[kept] = requests[i];
    active[kept] = active[i];
    ++kept;
  }
  active_count = static_cast<int>(kept);
}

bool MpiTransport::has_chunks() const { return parts_->active_count > 0; }

void MpiTransport::start_collective(const Collective& collective) {
  check(MPI_Iallgatherv(collective.mine, collective.counts[parts_->rank], MPI_BYTE, collective.all,
                        collective.counts, collective.displacements, MPI_BYTE, parts_->collectives,
                        &parts_->collective),
        "MPI_Iallgatherv");
}

bool MpiTransport::collective_finished() {
  int done = 0;
  check(MPI_Test(&parts_->collective, &done, MPI_STATUS_IGNORE), "MPI_Test");
  return done != 0;
}

bool MpiTransport::send_control(int target, const ControlMessage& message) {
  Parts::Outgoing& outgoing = parts_->outgoing[static_cast<std::size_t>(target)];
  int done = 0;
  check(MPI_Test(&outgoing.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
  if (done == 0) return false;
  const int bytes = static_cast<int>(encode(message, outgoing.bytes));
  check(MPI_Isend(outgoing.bytes.data(), bytes, MPI_BYTE, target, 0, parts_->control,
                  &outgoing.request),
        "MPI_Isend");
  return true;
}

void MpiTransport::Parts::listen() {
  check(MPI_Irecv(heard_bytes.data(), static_cast<int>(heard_bytes.size()), MPI_BYTE,
                  MPI_ANY_SOURCE, 0, control, &heard),
        "MPI_Irecv");
}

std::optional<Heard> MpiTransport::hear_control() {
  int done = 0;
  int bytes = 0;
  MPI_Status status;
  check(MPI_Test(&parts_->heard, &done, &status), "MPI_Test");
  if (done == 0) return std::nullopt;
  check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  const auto text = std::span<const std::byte>(parts_->heard_bytes);
  const auto message = decode(text.first(static_cast<std::size_t>(bytes)));
  if (!message) {
    throw CommError(
        fmt::format("rank {} sent {} bytes on the control route that no rank of this program "
                    "sends; start the same version of sluice on every rank.",
                    status.MPI_SOURCE, bytes));
  }
  parts_->listen();
  return Heard{status.MPI_SOURCE, *message};
}

void MpiTransport::abort(ExitStatus status) {
  if (parts_->size > 1) MPI_Abort(MPI_COMM_WORLD, static_cast<int>(status));
}

}  // namespace sluice::comm
