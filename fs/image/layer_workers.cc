// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_workers.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "fs/base/scope_exit.h"
#include "fs/image/layer_import.h"

namespace layerfs::image {

namespace {

constexpr std::chrono::milliseconds kReportPeriod{100};

}  // namespace

Result<void> LayerWorkers::run(std::size_t count, std::size_t threads, const Steps& steps) {
  running_ = std::min(count, threads);
  std::vector<std::jthread> workers;
  workers.reserve(running_);
  ScopeExit stop([&] { stop_ = true; });  // where a thread cannot be started, for those that were
  for (std::size_t i = std::min(count, threads); i > 0; --i)
    workers.emplace_back([&] { work(count, steps); });
  stop.release();
  report_until_done(steps);
  workers.clear();
  if (error_) return std::unexpected(std::move(*error_));
  return {};
}

void LayerWorkers::work(std::size_t count, const Steps& steps) {
  while (!stop_) {
    const std::size_t layer = next_.fetch_add(1);
    if (layer >= count) break;
    auto done = run_guarded([&] { return steps.work(layer); });
    if (done) continue;
    if (stop_.exchange(true)) break;  // another one was first
    auto told = run_guarded(
        [&]() -> Result<void> { return std::unexpected(steps.explain(layer, std::move(done).error())); });
    const std::lock_guard lock(mutex_);
    error_ = std::move(told).error();
  }
  const std::lock_guard lock(mutex_);
  --running_;
  done_.notify_all();
}

void LayerWorkers::report_until_done(const Steps& steps) {
  std::unique_lock lock(mutex_);
  for (bool finished = false; !finished;) {
    finished = done_.wait_for(lock, kReportPeriod, [&] { return running_ == 0; });
    lock.unlock();
    auto go_on = steps.report();
    lock.lock();
    if (!go_on && !stop_.exchange(true)) error_ = std::move(go_on).error();
  }
}

}  // namespace layerfs::image
