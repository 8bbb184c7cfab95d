// SPDX-License-Identifier: Apache-2.0
#include "fs/store/mapped_pages.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <thread>

#include "fs/base/sys_file.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kSize = MappedPages::kAllowed + (std::size_t{16} << 20);

class MappedPagesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string path = directory_.path() + "/file";
    Fd file = value_of(open_file(path, O_RDWR | O_CREAT, 0600));
    std::string bytes(kSize, '\0');
    for (std::size_t at = 0; at < kSize; at += kPage) bytes[at] = byte_of(at);
    ASSERT_DONE(pwrite_full(file.get(), std::as_bytes(std::span(bytes)), 0));
    void* mapped = ::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, file.get(), 0);
    ASSERT_NE(mapped, MAP_FAILED);
    map_ = static_cast<const char*>(mapped);
  }
  void TearDown() override { ::munmap(const_cast<char*>(map_), kSize); }

  static char byte_of(std::size_t at) { return static_cast<char>('a' + at / kPage % 23); }
  void read_all() const {
    for (std::size_t at = 0; at < kSize; at += kPage) ASSERT_EQ(map_[at], byte_of(at));
  }
  /// Rss of the map in bytes, by proc_pid_smaps(5).
  std::size_t resident() const {
    std::string all = value_of(read_file("/proc/self/smaps"));
    std::size_t at = all.find(fmt::format("{:x}-", reinterpret_cast<std::uintptr_t>(map_)));
    EXPECT_NE(at, std::string::npos);
    return std::stoul(all.substr(all.find("Rss:", at) + 4)) << 10;
  }

  TemporaryDirectory directory_;
  const char* map_ = nullptr;
  MappedPages pages_;
};

TEST_F(MappedPagesTest, WhatWasReadDoesNotStayResident) {
  read_all();
  EXPECT_EQ(resident(), kSize);
  for (unsigned read = 1; read < MappedPages::kReadsBeforeLook; ++read) pages_.touched(map_ + kSize / 2);
  EXPECT_EQ(resident(), kSize);
  pages_.touched(map_ + kSize / 2);
  EXPECT_EQ(resident(), 0U);
  read_all();
}

TEST_F(MappedPagesTest, ALittleStaysAsItIs) {
  for (std::size_t at = 0; at < std::size_t{4} << 20; at += kPage) ASSERT_EQ(map_[at], byte_of(at));
  std::size_t before = resident();
  EXPECT_GT(before, 0U);
  for (unsigned read = 0; read < 4 * MappedPages::kReadsBeforeLook; ++read) pages_.touched(map_);
  EXPECT_EQ(resident(), before);
}

TEST_F(MappedPagesTest, ReadersDoNotNotice) {
  std::jthread reader([this](const std::stop_token& stop) {
    while (!stop.stop_requested()) read_all();
  });
  for (unsigned read = 0; read < 200 * MappedPages::kReadsBeforeLook; ++read) pages_.touched(map_);
}

}  // namespace
}  // namespace layerfs::store
