// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <sstream>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/scope_exit.h"
#include "fs/base/sys_file.h"
#include "fs/fuse/capabilities.h"
#include "fs/fuse/device.h"
#include "fs/fuse/notify.h"
#include "fs/fuse/operations.h"
#include "fs/fuse/reply_road.h"

namespace layerfs::fuse {
namespace {

/// Room for the longest message: a WRITE of kMaxTransfer with its headers.
constexpr std::size_t kMessageSize = kMaxTransfer + 4096;
/// Bytes of messages that are held back while the file system is frozen.
constexpr std::size_t kMostHeldBack = std::size_t{64} << 20;
/// Wakes a thread that waits in read(2); its handler does nothing.
constexpr int kWakeSignal = SIGUSR1;

void on_wake(int) {}

/// libfuse's own lines go to our log.
__attribute__((format(printf, 2, 0))) void log_libfuse(fuse_log_level level, const char* format,
                                                       va_list arguments) {
  std::array<char, 512> line{};
  int length = std::vsnprintf(line.data(), line.size(), format, arguments);
  if (length <= 0) return;
  std::string_view text(line.data(),
                        std::min<std::size_t>(static_cast<std::size_t>(length), line.size() - 1));
  while (text.ends_with('\n')) text.remove_suffix(1);
  LogLevel ours = level <= FUSE_LOG_ERR       ? LogLevel::kError
                  : level == FUSE_LOG_WARNING ? LogLevel::kWarning
                  : level <= FUSE_LOG_INFO    ? LogLevel::kInfo
                                              : LogLevel::kDebug;
  if (ours <= log_level()) log_line(ours, text);
}

void init_operation(void* userdata, fuse_conn_info* connection) {
  negotiate(*static_cast<Adapter*>(userdata), *connection);
}

fuse_lowlevel_ops make_operations() {
  fuse_lowlevel_ops operations{};
  operations.init = init_operation;
  add_lookup_operations(operations);
  add_change_operations(operations);
  add_directory_operations(operations);
  add_file_operations(operations);
  add_xattr_operations(operations);
  return operations;
}

/// Root of the initial user namespace. The capabilities of a caller are not in its request; those of root of
/// another namespace would not count for CAP_FSETID.
bool is_real_root() {
  if (::geteuid() != 0) return false;
  auto map = read_file("/proc/self/uid_map");
  if (!map) return true;  // a kernel without user namespaces
  std::istringstream fields(*map);
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  return static_cast<bool>(fields >> inside >> outside >> count) && inside == 0 && outside == 0 &&
         count == std::numeric_limits<std::uint32_t>::max();
}

/// Keeps this thread on a processor, if it may be there: a caller and who answers it take turns.
void stay_on(unsigned processor) {
  if (processor >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0)
    log_debug("stay on processor {}: {}", processor, errno_text(errno));
}

/// Workers answer requests only; signals of the process are its main thread's. Returns the mask before.
sigset_t block_signals_but_wake() {
  sigset_t blocked;
  sigset_t before;
  sigfillset(&blocked);
  for (int kept : {kWakeSignal, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) sigdelset(&blocked, kept);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  return before;
}

}  // namespace

Result<std::unique_ptr<FuseServer>> FuseServer::mount(const std::string& mountpoint,
                                                      const FuseOptions& options, unionfs::UnionFs& fs) {
  LAYERFS_ASSIGN(auto device, mount_device(mountpoint, options));
  auto session = Session::make(std::move(device), mountpoint, options, fs);
  if (!session) {
    if (auto done = unmount_path(mountpoint, UnmountMode::kLazy); !done)
      log_error("{}", done.error().message());
    return with_context(session.error(), "mount", mountpoint);
  }
  return std::unique_ptr<FuseServer>(std::move(*session));
}

Result<std::unique_ptr<FuseServer>> FuseServer::attach(Fd device, const FuseOptions& options,
                                                       unionfs::UnionFs& fs) {
  LAYERFS_ASSIGN(auto session, Session::make(std::move(device), {}, options, fs));
  return std::unique_ptr<FuseServer>(std::move(session));
}

Result<std::unique_ptr<FuseServer>> FuseServer::take_over(Handover handover, const std::string& mountpoint,
                                                          const FuseOptions& options, unionfs::UnionFs& fs) {
  LAYERFS_ASSIGN(auto session, Session::take_over(std::move(handover), mountpoint, options, fs));
  return std::unique_ptr<FuseServer>(std::move(session));
}

Session::Session(unionfs::UnionFs& fs, const FuseOptions& options, std::string mountpoint)
    : mountpoint_(std::move(mountpoint)),
      adapter_{.fs = fs, .options = options, .root_is_real = is_real_root()},
      processes_(options.processes),
      pool_(most_workers(), kWakeSignal,
            [this](WorkerPool::Kind kind) { return start_thread([this, kind] { work(kind); }); }) {
  // Who mounted elsewhere may be in another PID namespace, in which the callers' numbers mean nothing here.
  if (processes_ || mountpoint_.empty()) return;
  if (auto own = open_file("/proc", O_PATH | O_DIRECTORY); own)
    processes_ = std::make_shared<const Fd>(std::move(*own));
}

Result<std::unique_ptr<Session>> Session::make(Fd device, std::string mountpoint, const FuseOptions& options,
                                               unionfs::UnionFs& fs) {
  std::unique_ptr<Session> session(new Session(fs, options, std::move(mountpoint)));
  LAYERFS_TRY(session->open_session(std::move(device)));
  LAYERFS_TRY(session->init());
  if (!options.outlives_server) return session;
  auto kept = duplicate(fuse_session_fd(session->session_.get()));
  if (kept && !kernel_resends(session->init_message_)) {
    if (auto alone = session->read_alone(); !alone) kept = std::unexpected(alone.error());
  }
  if (kept)
    session->kept_device_ = std::move(*kept);
  else
    log_warning("the mount will end with its server: {}", kept.error().message());
  return session;
}

Result<std::unique_ptr<Session>> Session::take_over(Handover handover, std::string mountpoint,
                                                    const FuseOptions& options, unionfs::UnionFs& fs) {
  std::unique_ptr<Session> session(new Session(fs, options, std::move(mountpoint)));
  LAYERFS_ASSIGN(Fd device, duplicate(handover.device.get()));
  auto holder = std::make_shared<const Fd>(std::move(device));
  LAYERFS_TRY(session->open_session(std::move(handover.device)));
  session->init_message_ = handover.init;
  {
    // The kernel refuses the reply (ENOENT): it had one.
    Worker worker(kMessageSize);
    session->process(worker, nullptr, std::as_writable_bytes(std::span(handover.init)));
  }
  if (!session->adapter_.initialised)
    return corrupt_error("take the mount over", "INIT", "it is not as the kernel sent it");
  session->adapter_.readers.note_all();
  fs.inherit_lookups([holder](unionfs::Ino ino) { return kernel_holds(holder->get(), ino); });
  if (kernel_resends(session->init_message_)) {
    LAYERFS_TRY(ask_to_resend(holder->get()));
  } else {
    LAYERFS_TRY(session->read_alone());
  }
  return session;
}

int Session::device() const { return fuse_session_fd(session_.get()); }

Result<Handover> Session::handover() const {
  if (!kept_device_) return Handover{};
  LAYERFS_ASSIGN(Fd device, duplicate(kept_device_.get()));
  return Handover{std::move(device), init_message_};
}

Result<void> Session::read_alone() {
  LAYERFS_ASSIGN(Fd own, clone_device(fuse_session_fd(session_.get())));
  if (::dup3(own.get(), fuse_session_fd(session_.get()), O_CLOEXEC) < 0) return system_error(errno, "dup");
  return {};
}

Session::~Session() = default;

Result<void> Session::open_session(Fd device) {
  fuse_set_log_func(log_libfuse);
  static const fuse_lowlevel_ops operations = make_operations();
  std::string name = "layerfs";
  std::string debug = "-d";
  std::vector<char*> argv{name.data()};
  if (adapter_.options.debug) argv.push_back(debug.data());
  fuse_args arguments{.argc = static_cast<int>(argv.size()), .argv = argv.data(), .allocated = 0};
  session_.reset(fuse_session_new(&arguments, &operations, sizeof operations, &adapter_));
  if (arguments.allocated != 0) fuse_opt_free_args(&arguments);
  if (session_ == nullptr) return system_error(ENOMEM, "make a FUSE session");
  adapter_.session = session_.get();
  if (adapter_.options.io_uring && !adapter_.options.outlives_server)
    route_replies(session_.get(), adapter_, device);
  if (!device) return {};
  // The form of a mount point that means: mounted already, here is the descriptor.
  if (fuse_session_mount(session_.get(), fmt::format("/dev/fd/{}", device.get()).c_str()) != 0)
    return system_error(EIO, "take the FUSE device");
  device.release();  // the session closes it
  return {};
}

Result<void> Session::init() {
  Worker worker(kMessageSize);
  while (!adapter_.initialised) {
    if (fuse_session_exited(session_.get()) != 0)
      return unsupported_error("start FUSE", {}, "the kernel and libfuse do not agree on a protocol");
    if (handle_one(worker, nullptr) == Step::kEnd) {
      int code = failure_.load();
      return system_error(code != 0 ? code : ENODEV, "start FUSE");
    }
  }
  if (!adapter_.can_keep_open)
    return unsupported_error("start FUSE", {}, "the kernel lacks zero-message opens (Linux 5.1 has them)");
  return {};
}

Session::Step Session::handle_one(Worker& worker, WorkerPool::Seat* seat) {
  auto buffer = worker.message_buffer();
  ssize_t count = ::read(fuse_session_fd(session_.get()), buffer.data(), buffer.size());
  if (count < 0) {
    int code = errno;
    if (seat != nullptr) seat->took_nothing();
    // ENOENT: the request was taken back while it was copied. EINTR: stop(), WorkerPool, or nothing.
    if (code == EINTR || code == EAGAIN || code == ENOENT) return stopping_ ? Step::kEnd : Step::kGoOn;
    if (code != ENODEV) failure_ = code;
    return Step::kEnd;
  }
  if (seat != nullptr) seat->took_request();
  ScopeExit answered([&] {
    if (seat != nullptr) seat->answered();
  });
  auto message = buffer.first(static_cast<std::size_t>(count));
  if (message.size() < sizeof(fuse_in_header)) {
    failure_ = EIO;
    return Step::kEnd;
  }
  // The last one counts, where the kernel and libfuse had to agree on a version first.
  if (!adapter_.initialised) init_message_ = as_text(message);
  // Where the queue is full it waits for the thaw itself.
  worker.may_hold_back = seat != nullptr && held_back_size_ < kMostHeldBack;
  process(worker, seat, message);
  if (std::exchange(worker.is_held_back, false)) hold_back(message);
  return stopping_ ? Step::kEnd : Step::kGoOn;
}

void Session::process(Worker& worker, WorkerPool::Seat* seat, std::span<std::byte> message) {
  worker.details = read_details(message, adapter_.extended_setxattr);
  if (seat != nullptr && worker.details.may_wait_for_disk) seat->may_wait_for_disk();
  worker.caller_cpu.note(worker.details.caller);
  if (seat != nullptr) seat->stays_on(worker.caller_cpu.processor());
  fuse_buf whole{};
  whole.size = message.size();
  whole.mem = message.data();
  fuse_session_process_buf(session_.get(), &whole);
}

void Session::hold_back(std::span<std::byte> message) {
  std::lock_guard lock(mutex_);
  held_back_.emplace_back(as_text(message));
  held_back_size_ += message.size();
  held_back_changed_.notify_one();
}

void Session::answer_held_back() {
  as_worker([this] {
    // Waits for the thaw with the first of them.
    Worker worker(1, processes());
    for (;;) {
      std::string message;
      {
        std::unique_lock lock(mutex_);
        held_back_changed_.wait(lock, [this] { return stopping_ || ended_ || !held_back_.empty(); });
        // The kernel fails what has no answer when the connection ends, or sends it to the next server.
        if (stopping_ || ended_) return;
        message = std::move(held_back_.front());
        held_back_.pop_front();
        held_back_size_ -= message.size();
      }
      process(worker, nullptr, std::as_writable_bytes(std::span(message)));
    }
  });
}

void Session::work(WorkerPool::Kind kind) {
  as_worker([this, kind] {
    WorkerPool::Seat seat(pool_, kind);
    Worker worker(kMessageSize, processes());
    if (adapter_.options.outlives_server) worker.touch_message_buffer();
    while (!stopping_ && seat.wait_for_turn() && handle_one(worker, &seat) == Step::kGoOn) {
    }
  });
  // Where the connection has ended, those that sleep in the pool are not told by it.
  pool_.stop();
}

void Session::work_for(Ring& ring) {
  as_worker([this, &ring] {
    WorkerPool::Seat seat(pool_, WorkerPool::Kind::kRing);
    Worker worker(ring, processes());
    ::pthread_setname_np(::pthread_self(), "fuse-ring");
    if (auto processor = ring.processor()) stay_on(*processor);
    ring.offer();
    while (!stopping_) {
      auto message = ring.next();
      if (!message) {
        const int code = message.error().code;
        if (code != ENOTCONN && code != ECONNABORTED)
          log_info("requests come through /dev/fuse: {}", message.error().message());
        return;
      }
      if (message->empty()) continue;
      seat.took_request();
      process(worker, &seat, *message);
      ring.finish();
      seat.answered();
    }
  });
}

void Session::as_worker(FunctionRef<void()> loop) {
  sigset_t before = block_signals_but_wake();
  {
    std::lock_guard lock(mutex_);
    workers_.push_back(pthread_self());
  }
  ScopeExit leave([&] {
    std::lock_guard lock(mutex_);
    std::erase_if(workers_, [](pthread_t thread) { return pthread_equal(thread, pthread_self()) != 0; });
    worker_left_.notify_all();
  });
  try {
    loop();
  } catch (const std::exception& exception) {
    log_error("FUSE worker: {}", exception.what());
    failure_ = ENOMEM;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

unsigned Session::most_workers() const {
  if (adapter_.options.threads != 0) return adapter_.options.threads;
  // One for each processor and two more, for those that wait for the disk; many only fight for the device.
  return std::clamp(std::thread::hardware_concurrency() + 2, 3U, 10U);
}

Result<void> Session::start_thread(std::function<void()> main) {
  std::lock_guard lock(mutex_);
  try {
    threads_.emplace_back(std::move(main));
  } catch (const std::system_error& error) {
    return system_error(error.code().value(), "start a FUSE worker");
  }
  return {};
}

Result<void> Session::serve() {
  struct sigaction wake{};
  wake.sa_handler = on_wake;  // without SA_RESTART: read(2) returns EINTR
  if (::sigaction(kWakeSignal, &wake, nullptr) != 0) return system_error(errno, "sigaction");
  // The kernel waits until every queue has an entry: each ring has to have its thread.
  Result<void> started;
  for (const auto& ring : adapter_.rings)
    if (started) started = start_thread([this, raw = ring.get()] { work_for(*raw); });
  // From here, because quiet workers would give it their policy and their processor.
  if (started) started = start_thread([this] { answer_held_back(); });
  if (started) started = pool_.start();
  if (started) as_worker([this] { pool_.watch(fuse_session_fd(session_.get())); });
  pool_.stop();
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    held_back_changed_.notify_all();
  }
  // The connection is there still: the others would read on.
  if (!started || failure_ != 0) stop();
  for (;;) {
    std::thread thread;
    {
      std::lock_guard lock(mutex_);
      if (threads_.empty()) break;
      thread = std::move(threads_.back());
      threads_.pop_back();
    }
    thread.join();
  }
  if (int code = failure_.load(); code != 0) return system_error(code, "read", "/dev/fuse");
  return started;
}

void Session::stop() {
  stopping_ = true;
  pool_.stop();
  // A signal that comes between a worker's check and its read(2) is lost: repeat until all have left.
  std::unique_lock lock(mutex_);
  held_back_changed_.notify_all();
  while (!workers_.empty()) {
    for (pthread_t thread : workers_) pthread_kill(thread, kWakeSignal);
    worker_left_.wait_for(lock, std::chrono::milliseconds(5));
  }
}

void Session::unmount() {
  if (mountpoint_.empty()) return stop();
  if (unmounted_.exchange(true)) return;
  auto done = unmount_path(mountpoint_, UnmountMode::kNow);
  if (!done && done.error().code == EBUSY) done = unmount_path(mountpoint_, UnmountMode::kLazy);
  // EINVAL, ENOENT: somebody was faster.
  if (!done && done.error().code != EINVAL && done.error().code != ENOENT)
    log_error("{}", done.error().message());
}

}  // namespace layerfs::fuse
