// SPDX-License-Identifier: Apache-2.0
// Random numbers, also where a seccomp filter makes getrandom(2) absent.
#include "fs/base/random.h"

#include <gtest/gtest.h>
#include <seccomp.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include <cerrno>
#include <set>
#include <thread>

namespace layerfs {
namespace {

TEST(Random, HexHasTwoDigitsAByte) {
  for (std::size_t bytes : {0U, 1U, 32U, 1000U}) {
    std::string text = random_hex(bytes);
    EXPECT_EQ(text.size(), 2 * bytes);
    EXPECT_EQ(text.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

TEST(Random, IdsDifferAndAreNotZero) {
  std::set<std::uint64_t> ids{0};
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(ids.insert(random_id()).second);
}

TEST(Random, IsThereWithoutGetrandom) {
  std::jthread([] {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    ASSERT_NE(filter, nullptr);
    ASSERT_EQ(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SYS_getrandom, 0), 0);
    ASSERT_EQ(seccomp_load(filter), 0);
    seccomp_release(filter);
    char byte = 0;
    ASSERT_EQ(::getrandom(&byte, 1, 0), -1);
    std::set<std::uint64_t> ids{0};
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(ids.insert(random_id()).second);
    EXPECT_NE(random_hex(32), std::string(64, '0'));
  });
}

}  // namespace
}  // namespace layerfs
