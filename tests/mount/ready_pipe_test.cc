// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/ready_pipe.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

namespace layerfs::mount {
namespace {

TEST(ReadyPipe, SuccessComesThrough) { EXPECT_TRUE(decode_outcome(encode_outcome({}))); }

TEST(ReadyPipe, ErrorsComeThroughWhole) {
  auto sent = with_context(invalid_error("open layer", "x", "is no layer").error(), "mount", "/mnt");
  auto got = decode_outcome(encode_outcome(std::unexpected(sent.error())));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(got.error().code, EINVAL);
  EXPECT_EQ(got.error().message(), sent.error().message());
}

TEST(ReadyPipe, AnythingElseMeansThatTheServerDied) {
  std::string whole = encode_outcome(system_error(ENOSPC, "write", "/x"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    auto got = decode_outcome(std::string_view(whole).substr(0, size));
    ASSERT_FALSE(got) << size;
    EXPECT_EQ(got.error().code, ESRCH) << size;
  }
  EXPECT_FALSE(decode_outcome("nonsense"));
  EXPECT_FALSE(decode_outcome(encode_outcome({}) + "x"));
}

TEST(ReadyPipe, OverARealPipe) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd reader(ends[0]);
  Fd writer(ends[1]);
  send_outcome(writer, system_error(EBUSY, "lock", "upper"));
  EXPECT_FALSE(writer);
  auto got = receive_outcome(reader.get());
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, EBUSY);
}

}  // namespace
}  // namespace layerfs::mount
