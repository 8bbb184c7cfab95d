// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/worker.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <cstring>
#include <string>
#include <thread>

#include "fs/base/bytes.h"
#include "fs/base/check.h"

namespace layerfs::fuse {
namespace {

template <class Body>
std::string message(std::uint32_t opcode, const Body& body) {
  fuse_in_header header{};
  header.opcode = opcode;
  header.unique = 77;
  header.len = sizeof header + sizeof body;
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes.append(reinterpret_cast<const char*>(&body), sizeof body);
  return bytes;
}

TEST(RequestDetails, AreReadFromEachKindOfMessage) {
  fuse_write_in write{};
  write.write_flags = FUSE_WRITE_KILL_SUIDGID;
  auto details = read_details(as_bytes(message(FUSE_WRITE, write)), true);
  EXPECT_EQ(details.unique, 77U);
  EXPECT_EQ(details.write_flags, static_cast<std::uint32_t>(FUSE_WRITE_KILL_SUIDGID));
  EXPECT_EQ(details.setattr_valid, 0U);

  fuse_setattr_in setattr{};
  setattr.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;
  details = read_details(as_bytes(message(FUSE_SETATTR, setattr)), true);
  EXPECT_EQ(details.setattr_valid, static_cast<std::uint32_t>(FATTR_SIZE | FATTR_KILL_SUIDGID));
  EXPECT_EQ(details.write_flags, 0U);
}

TEST(RequestDetails, SetxattrFlagsCountOnlyWhereNegotiated) {
  fuse_setxattr_in setxattr{};
  setxattr.setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID;
  std::string bytes = message(FUSE_SETXATTR, setxattr);
  EXPECT_EQ(read_details(as_bytes(bytes), true).setxattr_flags,
            static_cast<std::uint32_t>(FUSE_SETXATTR_ACL_KILL_SGID));
  // Without it the name of the attribute begins there.
  EXPECT_EQ(read_details(as_bytes(bytes), false).setxattr_flags, 0U);
}

TEST(RequestDetails, ShortMessagesGiveZeros) {
  fuse_write_in write{};
  write.write_flags = 7;
  std::string bytes = message(FUSE_WRITE, write);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    auto details = read_details(as_bytes(std::string_view(bytes).substr(0, size)), true);
    EXPECT_EQ(details.write_flags, 0U) << size;
  }
}

TEST(Worker, ReplyBufferGrowsAndIsKept) {
  Worker worker(4096);
  EXPECT_EQ(&current_worker(), &worker);
  auto small = worker.reply_buffer(100);
  EXPECT_EQ(small.size(), 100U);
  auto large = worker.reply_buffer(1 << 20);
  std::memset(large.data(), 1, large.size());
  EXPECT_EQ(worker.reply_buffer(4096).data(), large.data());
}

TEST(Worker, BelongsToItsThread) {
  Worker worker(4096);
  std::thread([] { EXPECT_THROW(current_worker(), CheckFailure); }).join();
}

}  // namespace
}  // namespace layerfs::fuse
