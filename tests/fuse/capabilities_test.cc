// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/capabilities.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace layerfs::fuse {
namespace {

/// What is wanted of a kernel that can everything, where libfuse has asked for what it asks for by itself.
template <class Connection>
std::uint64_t wanted() {
  Connection connection{};
  connection.capable = ~0U;
  connection.want = FUSE_CAP_ASYNC_DIO | FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC;
  if constexpr (requires { connection.capable_ext; }) {
    connection.capable_ext = ~std::uint64_t{0};
    connection.want_ext = connection.want;
  }
  choose_features(connection);
  if constexpr (requires { connection.want_ext; }) return connection.want_ext;
  return connection.want;
}

TEST(Capabilities, LeaveNoRoadPastThePageCache) {
  const std::uint64_t flags = wanted<fuse_conn_info>();
  EXPECT_EQ(flags & FUSE_CAP_ASYNC_DIO, 0U) << "direct writes of AIO would leave pages that are old";
  EXPECT_EQ(flags & FUSE_CAP_ATOMIC_O_TRUNC, 0U);
  EXPECT_EQ(flags & FUSE_CAP_WRITEBACK_CACHE, 0U);
  EXPECT_NE(flags & FUSE_CAP_ASYNC_READ, 0U);
}

}  // namespace
}  // namespace layerfs::fuse
