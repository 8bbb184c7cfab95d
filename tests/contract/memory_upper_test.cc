// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/memory_upper.h"
#include "tests/contract/upper_layer_contract.h"

namespace layerfs::tree {
namespace {

INSTANTIATE_TEST_SUITE_P(MemoryUpper, UpperLayerContract, testing::Values([] {
                           return UpperUnderTest{nullptr, upper::make_memory_upper(), nullptr};
                         }));

}  // namespace
}  // namespace layerfs::tree
