// SPDX-License-Identifier: Apache-2.0
// Archives that nobody should have made: each is refused with the entry or the place named, none is read
// wrongly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/image/tar_reading.h"
#include "tests/support/tar_builder.h"

namespace layerfs::image {
namespace {

using testing::HasSubstr;

struct Hostile {
  const char* title;
  std::string tar;
  const char* error;
};

std::string with_header(const std::function<void(TarHeader&)>& edit, char type = '0') {
  return TarBuilder().add({.name = "evil", .type = type, .dialect = TarDialect::kGnu, .edit = edit}).finish();
}

std::string with_pax(const std::vector<std::pair<std::string, std::string>>& records) {
  return TarBuilder().pax(records).file("evil", "").finish();
}

std::string with_pax_body(const std::string& body) {
  return TarBuilder().add({.name = "x", .type = 'x', .content = body}).file("evil", "").finish();
}

std::string with_sparse(const std::string& size, const std::string& map, const std::string& content) {
  return TarBuilder()
      .pax({{"GNU.sparse.size", size}, {"GNU.sparse.map", map}})
      .file("evil", content)
      .finish();
}

std::string with_sparse_map(const std::string& map) {
  std::string padded = map;
  padded.resize(map.size() + tar_padding(map.size()), '\0');
  return TarBuilder()
      .pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "100"}})
      .file("evil", padded)
      .finish();
}

std::string broken_checksum() {
  std::string tar = TarBuilder().file("evil", "").finish();
  tar[0] = 'x';
  return tar;
}

std::string endless_gnu_map() {
  // Extension blocks that always promise another one.
  std::string block(kTarBlock, '\0');
  std::string pair = number_field(0) + number_field(0);
  for (std::size_t i = 0; i < kGnuExtensionPairs; ++i) std::memcpy(block.data() + i * 24, pair.data(), 24);
  block[kGnuExtensionMoreAt] = '\1';
  TarBuilder tar;
  tar.add({.name = "evil", .type = 'S', .dialect = TarDialect::kGnu, .edit = [](TarHeader& header) {
             put_header(header, kGnuMoreAt, "\1");
             put_header(header, kGnuRealSizeAt, number_field(0));
           }});
  for (std::size_t i = 0; i < kMaxSparseExtents / kGnuExtensionPairs + 2; ++i) tar.raw(block);
  return tar.finish();
}

std::string many_global_records() {
  TarBuilder tar;
  for (int i = 0; i < 12; ++i) tar.pax({{"key" + std::to_string(i), std::string(100000, 'v')}}, 'g');
  return tar.file("evil", "").finish();
}

std::vector<Hostile> hostile_archives() {
  auto number = [](auto TarHeader::* field, std::int64_t value) {
    return [=](TarHeader& header) { put_tar_number(header.*field, value); };
  };
  auto text = [](auto TarHeader::* field, const char* value) {
    return [=](TarHeader& header) { std::memcpy((header.*field).data(), value, std::strlen(value) + 1); };
  };
  return {
      {"checksum", broken_checksum(), "tar header at byte '0': wrong checksum"},
      {"size not a number", with_header(text(&TarHeader::size, "9z")), "tar entry 'evil': invalid size"},
      {"negative size", with_header(number(&TarHeader::size, -1)), "tar entry 'evil': size out of range"},
      {"huge size", with_header(number(&TarHeader::size, INT64_MAX)), "tar entry 'evil': size out of range"},
      {"size beyond the end", with_header(number(&TarHeader::size, 1 << 20)), "tar entry 'evil': truncated"},
      {"mode not a number", with_header(text(&TarHeader::mode, "rwx")), "tar entry 'evil': invalid mode"},
      {"uid -1", with_header(number(&TarHeader::uid, -1)), "tar entry 'evil': uid -1 out of range"},
      {"gid 2^32-1", with_header(number(&TarHeader::gid, 0xffffffff)),
       "tar entry 'evil': gid 4294967295 out of range"},
      {"mtime not a number", with_header(text(&TarHeader::mtime, "now")), "tar entry 'evil': invalid mtime"},
      {"major", with_header(number(&TarHeader::device_major, 4096), '3'), "device 4096:0 out of range"},
      {"minor", with_header(number(&TarHeader::device_minor, 1048576), '4'), "device 0:1048576 out of range"},
      {"unknown type", with_header([](TarHeader&) {}, 'M'), "tar entry 'evil': unknown tar entry type 0x4d"},
      {"directory with contents", TarBuilder().file("evil/", "x").finish(), "a directory with contents"},
      {"lone zero block", TarBuilder().file("f", "").raw(std::string(512, '\0')).file("evil", "").finish(),
       "tar header at byte '512': a lone zero block"},
      {"pax header of 2 MiB",
       TarBuilder().add({.name = "x", .type = 'x', .content = std::string(2 << 20, 'a')}).finish(),
       "2097152 bytes (at most 1048576)"},
      {"long name of 2 MiB",
       TarBuilder().add({.name = "x", .type = 'L', .content = std::string(2 << 20, 'a')}).finish(),
       "2097152 bytes (at most 1048576)"},
      {"pax header before the end", TarBuilder().pax({{"path", "x"}}).bytes(), "truncated"},
      {"more global records than memory", many_global_records(), "more than 1 MiB of global pax records"},
      {"pax length too large", with_pax_body("99 path=x\n"), "invalid pax record length"},
      {"pax length too small", with_pax_body("3 p\n"), "invalid pax record length"},
      {"pax length no number", with_pax_body("x path=x\n"), "invalid pax record length"},
      {"pax length of many digits", with_pax_body("99999999999999999999 path=x\n"),
       "invalid pax record length"},
      {"pax record without newline", with_pax_body("9 path=xy"), "a pax record without newline"},
      {"pax record without key", with_pax_body("5 =x\n"), "a pax record without key"},
      {"pax record without equals", with_pax_body("7 path\n"), "a pax record without key"},
      {"pax size no number", with_pax({{"size", "1x"}}), "tar entry 'evil': invalid pax size"},
      {"pax size negative", with_pax({{"size", "-1"}}), "tar entry 'evil': invalid pax size"},
      {"pax size overflows", with_pax({{"size", "99999999999999999999"}}),
       "tar entry 'evil': invalid pax size"},
      {"pax size too large", with_pax({{"size", "9223372036854775807"}}),
       "tar entry 'evil': size out of range"},
      {"pax uid too large", with_pax({{"uid", "4294967295"}}),
       "tar entry 'evil': uid 4294967295 out of range"},
      {"pax time", with_pax({{"mtime", "1.2.3"}}), "tar entry 'evil': invalid pax time"},
      {"xattr without name", with_pax({{"SCHILY.xattr.", "v"}}), "an extended attribute without a name"},
      {"xattr name of 300", with_pax({{"SCHILY.xattr.user." + std::string(300, 'a'), "v"}}),
       "longer than 255 bytes"},
      {"xattr with NUL", with_pax({{std::string("SCHILY.xattr.user.a\0b", 21), "v"}}),
       "a NUL in an extended"},
      {"xattr of 70 KiB", with_pax({{"SCHILY.xattr.user.a", std::string(70 * 1024, 'v')}}),
       "extended attribute 'user.a' longer than 64 KiB"},
      {"xattr not base64", with_pax({{"LIBARCHIVE.xattr.user.a", "!"}}), "invalid LIBARCHIVE.xattr record"},
      {"sparse overlap", with_sparse("100", "0,10,5,10", std::string(20, 'x')),
       "tar entry 'evil': invalid sparse map"},
      {"sparse beyond size", with_sparse("100", "95,10", std::string(10, 'x')), "invalid sparse map"},
      {"sparse overflow", with_sparse("100", "9223372036854775807,9223372036854775807", ""),
       "invalid sparse map"},
      {"sparse sum", with_sparse("100", "0,10", std::string(11, 'x')), "invalid sparse map"},
      {"sparse odd list", with_sparse("100", "0,10,20", std::string(10, 'x')), "invalid sparse map"},
      {"sparse text", with_sparse("100", "0,ten", std::string(10, 'x')), "invalid sparse map"},
      {"sparse size", with_sparse("-1", "0,1", "x"), "invalid size of a sparse file"},
      {"sparse without size", TarBuilder().pax({{"GNU.sparse.map", "0,1"}}).file("evil", "x").finish(),
       "a sparse file without a size"},
      {"sparse pairs out of order", with_pax({{"GNU.sparse.numbytes", "1"}}), "invalid sparse map"},
      {"sparse format 2",
       with_pax({{"GNU.sparse.major", "2"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.size", "1"}}),
       "unknown sparse format"},
      {"sparse map without end", with_sparse_map("5\n0\n1\n"), "invalid sparse map"},
      {"sparse map of letters", with_sparse_map("five\n"), "invalid sparse map"},
      {"sparse map of endless digits", with_sparse_map(std::string(600, '1')), "invalid sparse map"},
      {"sparse map of too many", with_sparse_map("99999999\n"), "more than a million extents"},
  };
}

TEST(TarReaderHostile, EveryArchiveIsRefusedByName) {
  for (const auto& archive : hostile_archives()) {
    EXPECT_THAT(read_tar(archive.tar).error, HasSubstr(archive.error)) << archive.title;
    if (archive.tar.size() > 4096) continue;
    EXPECT_THAT(read_tar(archive.tar, 7).error, HasSubstr(archive.error)) << archive.title;
  }
}

TEST(TarReaderHostile, ASparseMapInEndlessBlocksStopsAtItsLimit) {
  EXPECT_THAT(read_tar(endless_gnu_map()).error, HasSubstr("more than a million extents"));
}

TEST(TarReaderHostile, NamesInMessagesAreHarmlessOnATerminal) {
  std::string tar = TarBuilder().add({.name = "a\x1b[2Jb", .type = 'M'}).finish();
  EXPECT_THAT(read_tar(tar).error, HasSubstr("'a\\x1b[2Jb'"));
}

TEST(TarReaderHostile, ATarCutAnywhereIsAnErrorAndNeverMoreThanWasThere) {
  TarBuilder built;
  built.pax({{"path", "dir/file"}, {"SCHILY.xattr.user.x", "y"}}).file("f", "some contents");
  built.gnu_long('L', std::string(120, 'n')).file("n", std::string(600, 'z'));
  built.pax({{"GNU.sparse.size", "2000"}, {"GNU.sparse.map", "0,4,1000,2"}}).file("s", "AAAABB");
  const std::string tar = built.finish();
  const std::size_t marked = tar.size() - kTarBlock;  // one zero block says that it is the end
  for (std::size_t size = 0; size < tar.size(); ++size) {
    Reading reading = read_tar(std::string_view(tar).substr(0, size));
    if (size == marked) {
      EXPECT_EQ(reading.error, "");
    } else {
      EXPECT_THAT(reading.error, HasSubstr("truncated")) << size;
    }
    EXPECT_TRUE(tar.starts_with(reading.stream)) << size;
  }
}

TEST(TarReaderHostile, ATarWithAnyByteChangedNeverReadsBeyondItself) {
  TarBuilder built;
  built.pax({{"path", "dir/file"}, {"mtime", "1.5"}}).file("f", "some contents");
  built.pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "9"}});
  std::string map = "1\n0\n1\n";
  map.resize(kTarBlock, '\0');
  const std::string tar = built.file("s", map + "A").finish();
  for (std::size_t at = 0; at < tar.size(); ++at) {
    for (unsigned char flip : {0x01, 0x10, 0x80}) {
      std::string changed = tar;
      changed[at] = static_cast<char>(static_cast<unsigned char>(changed[at]) ^ flip);
      Reading reading = read_tar(changed);
      EXPECT_TRUE(!reading.error.empty() || reading.stream == changed) << at;
    }
  }
}

}  // namespace
}  // namespace layerfs::image
