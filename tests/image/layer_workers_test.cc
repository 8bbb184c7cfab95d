// SPDX-License-Identifier: Apache-2.0
#include "fs/image/layer_workers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cerrno>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

namespace layerfs::image {
namespace {

constexpr auto kAsItIs = [](std::size_t, Error error) { return error; };
constexpr auto kNothing = []() -> Result<void> { return {}; };

/// Work that ends once it is told to.
void wait_for_stop(const LayerWorkers& workers) {
  while (!workers.stop()) std::this_thread::yield();
}

TEST(LayerWorkers, EachLayerIsWorkedOnOnce) {
  LayerWorkers workers;
  std::mutex mutex;
  std::multiset<std::size_t> seen;
  int reports = 0;
  const auto done = workers.run(100, 3,
                                {.work = [&](std::size_t layer) -> Result<void> {
                                   const std::lock_guard lock(mutex);
                                   seen.insert(layer);
                                   return {};
                                 },
                                 .explain = kAsItIs,
                                 .report = [&]() -> Result<void> {
                                   ++reports;
                                   return {};
                                 }});
  EXPECT_TRUE(done);
  EXPECT_GE(reports, 1);
  EXPECT_EQ(seen.size(), 100U);
  EXPECT_EQ(std::set<std::size_t>(seen.begin(), seen.end()).size(), 100U);
  EXPECT_FALSE(workers.stop());
}

TEST(LayerWorkers, NoLayersAreDoneAtOnce) {
  LayerWorkers workers;
  const auto never = [](std::size_t) -> Result<void> { return errno_error(EIO); };
  EXPECT_TRUE(workers.run(0, 4, {.work = never, .explain = kAsItIs, .report = kNothing}));
}

TEST(LayerWorkers, AsManyAreAtWorkAsThereAreThreads) {
  LayerWorkers workers;
  std::barrier together(3);  // it would wait for ever with fewer
  std::atomic<int> at_work = 0;
  std::atomic<int> most = 0;
  const auto work = [&](std::size_t) -> Result<void> {
    const int now = ++at_work;
    for (int known = most; now > known && !most.compare_exchange_weak(known, now);) {
    }
    together.arrive_and_wait();
    --at_work;
    together.arrive_and_wait();
    return {};
  };
  EXPECT_TRUE(workers.run(9, 3, {.work = work, .explain = kAsItIs, .report = kNothing}));
  EXPECT_EQ(most, 3);
}

TEST(LayerWorkers, TheFirstErrorStopsTheOthersAndIsTold) {
  LayerWorkers workers;
  std::atomic<int> explained = 0;
  std::atomic<int> begun = 0;
  const auto done = workers.run(100, 2,
                                {.work = [&](std::size_t layer) -> Result<void> {
                                   ++begun;
                                   if (layer == 1) return errno_error(ENOSPC);
                                   wait_for_stop(workers);
                                   return errno_error(ECANCELED);
                                 },
                                 .explain =
                                     [&](std::size_t layer, Error error) {
                                       EXPECT_TRUE(workers.stop());
                                       ++explained;
                                       error.context = "layer " + std::to_string(layer);
                                       return error;
                                     },
                                 .report = kNothing});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ENOSPC);
  EXPECT_EQ(done.error().context, "layer 1");
  EXPECT_EQ(explained, 1);
  EXPECT_EQ(begun, 2);
}

TEST(LayerWorkers, AnExceptionIsAnError) {
  LayerWorkers workers;
  const auto work = [](std::size_t) -> Result<void> { throw std::runtime_error("out of luck"); };
  const auto done = workers.run(1, 1, {.work = work, .explain = kAsItIs, .report = kNothing});
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message().find("out of luck"), std::string::npos) << done.error().message();
}

TEST(LayerWorkers, AnExceptionOfWhoExplainsIsAnErrorToo) {
  LayerWorkers workers;
  const auto work = [](std::size_t) -> Result<void> { return errno_error(EIO); };
  const auto explain = [](std::size_t, const Error&) -> Error { throw std::runtime_error("no words"); };
  const auto done = workers.run(1, 1, {.work = work, .explain = explain, .report = kNothing});
  ASSERT_FALSE(done);
  EXPECT_NE(done.error().message().find("no words"), std::string::npos) << done.error().message();
}

TEST(LayerWorkers, AReportThatFailsEndsTheWork) {
  LayerWorkers workers;
  const auto work = [&](std::size_t) -> Result<void> {
    wait_for_stop(workers);
    return errno_error(ECANCELED);
  };
  const auto report = []() -> Result<void> { return errno_error(EINTR); };
  const auto done = workers.run(5, 2, {.work = work, .explain = kAsItIs, .report = report});
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, EINTR);
}

}  // namespace
}  // namespace layerfs::image
