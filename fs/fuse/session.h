// SPDX-License-Identifier: Apache-2.0
// Session: FuseServer over one libfuse session, with its own threads and loop. libfuse decodes a message and
// calls the operation; reading the device is done here, so that each thread keeps its buffers and sees the
// whole message.
//
// (1) INIT is answered before the constructor functions return; serve() only sees requests after it.
// (2) Every worker reads and answers whole requests; there is no queue between them.
// (3) A mount that outlives this server: see KEEPER.md.
// (4) A worker leaves on ENODEV (unmounted, aborted) or after stop(), which wakes readers by a signal.
// (5) Workers are started as they are needed: when one takes a request and nobody is left to take the next. A
// server that has little to do so stays small: each has a buffer of the largest message.
// (6) With FuseOptions::io_uring requests come by rings (ring.h), each with a thread of its own; FORGET, and
// all where that can't be, comes through the device as ever.
//
//   made --init()--> ready --serve()--> serving --ENODEV | stop()--> ended
#pragma once

#include <atomic>
#include <condition_variable>
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
  void process(Worker& worker, std::span<std::byte> message);
  /// Where the kernel can't send requests again: reads through a device of this process's own, whose closing
  /// by its death fails what was read and not answered.
  Result<void> read_alone();
  void work();
  /// Answers the requests of `ring` until the connection ends, or the kernel does not take its entries: then
  /// all requests come through the device.
  void work_for(Ring& ring);
  /// What every worker is around `loop`.
  void as_worker(FunctionRef<void()> loop);
  Result<void> start_ring(Ring& ring);
  enum class Step : unsigned char { kGoOn, kEnd };
  Step handle_one(Worker& worker);
  unsigned most_workers() const;
  /// One more, unless there are as many as there may be.
  void start_worker();

  struct Destroy {
    void operator()(fuse_session* session) const { fuse_session_destroy(session); }
  };

  std::string mountpoint_;
  std::string init_message_;
  Fd kept_device_;  // what handover() gives away; empty: nothing
  Adapter adapter_;
  std::unique_ptr<fuse_session, Destroy> session_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> unmounted_ = false;
  std::atomic<int> failure_ = 0;  // errno of a reader that failed for another reason than (4)

  // Workers that wait for a request, or are about to.
  std::atomic<unsigned> waiting_ = 0;

  std::mutex mutex_;
  // Threads inside work(), for stop() to wake. Guarded by mutex_.
  std::vector<pthread_t> workers_;
  // Those that serve() joins, and how many were started, its own included. Guarded by mutex_.
  std::vector<std::thread> threads_;
  unsigned started_ = 1;
  std::condition_variable worker_left_;
};

}  // namespace layerfs::fuse
