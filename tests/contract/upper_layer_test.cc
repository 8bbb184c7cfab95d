// SPDX-License-Identifier: Apache-2.0
// The suite is one object file: a parameterised suite must not be in two.
#include <functional>
#include <memory>

#include "fs/upper/delta_upper.h"
#include "fs/upper/memory_upper.h"
#include "tests/base/scratch_dir.h"
#include "tests/contract/upper_layer_contract.h"

namespace layerfs::tree {
namespace {

std::shared_ptr<UpperLayer> open_in(const ScratchDir& dir, upper::DeltaOptions options) {
  auto opened = upper::open_delta(dir / "delta", options);
  if (opened) return std::move(*opened);
  ADD_FAILURE() << opened.error().message();
  return nullptr;
}

UpperUnderTest make(upper::DeltaOptions options) {
  auto dir = std::make_shared<ScratchDir>();
  auto reopen = [dir, options](UpperUnderTest& under_test) {
    under_test.upper.reset();  // the lock goes with it
    under_test.upper = open_in(*dir, options);
  };
  return {dir, open_in(*dir, options), reopen};
}

INSTANTIATE_TEST_SUITE_P(MemoryUpper, UpperLayerContract, testing::Values([] {
                           return UpperUnderTest{nullptr, upper::make_memory_upper(), nullptr};
                         }));

INSTANTIATE_TEST_SUITE_P(DeltaUpper, UpperLayerContract, testing::Values([] { return make({}); }));
INSTANTIATE_TEST_SUITE_P(VolatileDeltaUpper, UpperLayerContract,
                         testing::Values([] { return make({.is_volatile = true}); }));

}  // namespace
}  // namespace layerfs::tree
