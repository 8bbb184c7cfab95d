// SPDX-License-Identifier: Apache-2.0
// LayerWorkers: the layers of one image, several at a time.
//
// (1) The first error stops the others and is the one that is told.
// (2) The calling thread works on no layer: it reports, so that it is the only one that calls back.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"

namespace layerfs::image {

class LayerWorkers {
 public:
  struct Steps {
    FunctionRef<Result<void>(std::size_t layer)> work;  ///< by any thread; an exception is an error
    /// What is told of the first error, by its thread while the others stop.
    FunctionRef<Error(std::size_t layer, Error error)> explain;
    FunctionRef<Result<void>()> report;  ///< now and then, and at the end; an error ends the work
  };

  /// Works on layers 0 to `count` - 1, in this order, by at most `threads` threads. Call once. Errors: those of the
  /// steps.
  Result<void> run(std::size_t count, std::size_t threads, const Steps& steps);

  /// True from the first error on: the work of other layers is to end.
  const std::atomic<bool>& stop() const { return stop_; }

 private:
  void work(std::size_t count, const Steps& steps);
  void report_until_done(const Steps& steps);

  std::atomic<std::size_t> next_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable done_;
  std::size_t running_ = 0;     ///< guarded by mutex_
  std::optional<Error> error_;  ///< guarded by mutex_
};

}  // namespace layerfs::image
