// SPDX-License-Identifier: Apache-2.0
// Session: FuseServer over one libfuse session, with its own threads and loop. libfuse decodes a message and
// calls the operation; reading the device is done here, so that each thread keeps its buffers and sees the
// whole message.
//
// (1) INIT is answered before the constructor functions return; serve() only sees requests after it.
// (2) Every worker reads and answers whole requests; there is no queue between them, but for (7).
// (3) A mount that outlives this server: see KEEPER.md.
// (4) A worker leaves on ENODEV (unmounted, aborted) or after stop(), which wakes readers by a signal.
// (5) Which workers there are, and which of them read, is WorkerPool's to say. A server that has little to do
//     stays small: each worker has a buffer of the largest message. The thread in serve() watches the pool.
// (6) With FuseOptions::io_uring requests come by rings (ring.h), each with a thread of its own; FORGET, and
//     all where that can't be, comes through the device as ever.
// (7) A change that comes while the file system is frozen waits for no thaw in its worker, or a few of them would
//     hold up every reader. Its message goes into a queue, of which a thread of its own makes and answers the
//     changes once they may be made. The queue has room for kMostHeldBack bytes; what does not fit waits in its
//     worker. A ring has no queue: the kernel takes its entry back only with an answer, so that as many changes
//     as a processor has entries hold up the reads that come from there.
//
//   made --init()--> ready --serve()--> serving --ENODEV | stop()--> ended
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/fuse/adapter.h"
#include "fs/fuse/fuse_server.h"
#include "fs/fuse/worker_pool.h"

namespace layerfs::fuse {

class Session final : public FuseServer {
 public:
  /// `mountpoint`: what unmount() unmounts; empty where somebody else mounted it.
  static Result<std::unique_ptr<Session>> make(Fd device, std::string mountpoint, const FuseOptions& options,
                                               unionfs::UnionFs& fs);
  static Result<std::unique_ptr<Session>> take_over(Handover handover, std::string mountpoint,
                                                    const FuseOptions& options, unionfs::UnionFs& fs);
  ~Session() override;
  Result<Handover> handover() const override;
  int device() const override;

  Result<void> serve() override;
  void stop() override;
  void unmount() override;

 private:
  Session(unionfs::UnionFs& fs, const FuseOptions& options, std::string mountpoint);
  Result<void> open_session(Fd device);
  /// Waits for INIT and answers it.
  Result<void> init();
  void process(Worker& worker, WorkerPool::Seat* seat, std::span<std::byte> message);
  /// Puts a change that can't be made before a thaw into the queue (7).
  void hold_back(std::span<std::byte> message);
  /// The main function of the thread that answers the queue.
  void answer_held_back();
  /// Where the kernel can't send requests again: reads through a device of this process's own, whose closing
  /// by its death fails what was read and not answered.
  Result<void> read_alone();
  void work(WorkerPool::Kind kind);
  /// Answers the requests of `ring` until the connection ends, or the kernel does not take its entries: then
  /// all requests come through the device.
  void work_for(Ring& ring);
  /// What every worker is around `loop`.
  void as_worker(FunctionRef<void()> loop);
  enum class Step : unsigned char { kGoOn, kEnd };
  Step handle_one(Worker& worker, WorkerPool::Seat* seat);
  unsigned most_workers() const;
  int processes() const { return processes_ ? processes_->get() : -1; }
  Result<void> start_thread(std::function<void()> main);

  struct Destroy {
    void operator()(fuse_session* session) const { fuse_session_destroy(session); }
  };

  std::string mountpoint_;
  std::string init_message_;
  Fd kept_device_;  // what handover() gives away; empty: nothing
  Adapter adapter_;
  std::unique_ptr<fuse_session, Destroy> session_;
  std::shared_ptr<const Fd> processes_;  // FuseOptions::processes, or /proc; null: none
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> unmounted_ = false;
  std::atomic<int> failure_ = 0;  // errno of a reader that failed for another reason than (4)

  WorkerPool pool_;

  std::mutex mutex_;  // taken with the pool's lock held
  // Threads inside work(), for stop() to wake. Guarded by mutex_.
  std::vector<pthread_t> workers_;
  // Those that serve() joins. Guarded by mutex_.
  std::vector<std::thread> threads_;
  std::condition_variable worker_left_;
  // Messages of changes that came while the file system was frozen (7). Guarded by mutex_.
  std::deque<std::string> held_back_;
  std::atomic<std::size_t> held_back_size_ = 0;  // bytes; written with mutex_ held
  bool ended_ = false;                           // no worker reads any more
  std::condition_variable held_back_changed_;
};

}  // namespace layerfs::fuse
