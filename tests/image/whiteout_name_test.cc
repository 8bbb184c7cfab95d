// SPDX-License-Identifier: Apache-2.0
#include "fs/image/whiteout_name.h"

#include <gtest/gtest.h>

namespace layerfs::image {
namespace {

TEST(EntryPath, IsMadeCanonical) {
  for (const char* name : {"a/b", "./a/b", "a//b/", "a/./b", ".//a/b/.", "/a/b", "///a/b/"}) {
    auto parsed = parse_entry_path(name);
    ASSERT_TRUE(parsed) << name;
    EXPECT_EQ(parsed->meaning, PathMeaning::kEntry);
    EXPECT_EQ(parsed->path, "a/b") << name;
  }
  for (const char* name : {".", "./", "././", "/", "//."})
    EXPECT_EQ(parse_entry_path(name)->path, "") << name;
}

TEST(EntryPath, WhatNoTreeCanHoldIsRefused) {
  EXPECT_EQ(parse_entry_path("").error().reason, "an empty name");
  EXPECT_EQ(parse_entry_path("/../etc/passwd").error().reason, "'..' in the name");
  EXPECT_EQ(parse_entry_path("a/../b").error().reason, "'..' in the name");
  EXPECT_EQ(parse_entry_path("..").error().reason, "'..' in the name");
  EXPECT_EQ(parse_entry_path(std::string("a\0b", 3)).error().reason, "a NUL in the name");
  EXPECT_TRUE(parse_entry_path("a..b/..c/d.."));
}

TEST(EntryPath, NamesOf255BytesAndPathsOf4095AreTheLongest) {
  EXPECT_TRUE(parse_entry_path("d/" + std::string(255, 'x')));
  EXPECT_EQ(parse_entry_path("d/" + std::string(256, 'x')).error().reason,
            "a component longer than 255 bytes");
  std::string path;
  while (path.size() < 4094) path += path.size() % 200 == 199 ? '/' : 'x';
  path += 'y';
  ASSERT_EQ(path.size(), 4095U);
  EXPECT_TRUE(parse_entry_path(path));
  EXPECT_EQ(parse_entry_path(path + "z").error().reason, "a path longer than 4095 bytes");
}

TEST(EntryPath, NonUtf8NamesAreKept) { EXPECT_EQ(parse_entry_path("\xff\xfe/\x80")->path, "\xff\xfe/\x80"); }

TEST(EntryPath, WhiteoutsAndOpaqueMarks) {
  auto whiteout = parse_entry_path("a/.wh.b");
  ASSERT_TRUE(whiteout);
  EXPECT_EQ(whiteout->meaning, PathMeaning::kWhiteout);
  EXPECT_EQ(whiteout->path, "a/b");
  EXPECT_EQ(parse_entry_path(".wh.b")->path, "b");
  EXPECT_EQ(parse_entry_path("/.wh.b")->path, "b");
  auto opaque = parse_entry_path("./a/.wh..wh..opq");
  ASSERT_TRUE(opaque);
  EXPECT_EQ(opaque->meaning, PathMeaning::kOpaque);
  EXPECT_EQ(opaque->path, "a");
  EXPECT_EQ(parse_entry_path(".wh..wh..opq")->path, "");
  EXPECT_EQ(parse_entry_path("a/x.wh.b")->meaning, PathMeaning::kEntry);
}

TEST(EntryPath, BadWhiteoutsAreRefused) {
  EXPECT_EQ(parse_entry_path("a/.wh.").error().reason, "a whiteout of no name");
  EXPECT_EQ(parse_entry_path("a/.wh..").error().reason, "a whiteout of '.'");
  EXPECT_EQ(parse_entry_path("a/.wh...").error().reason, "a whiteout of '..'");
  EXPECT_EQ(parse_entry_path(".wh.a/b").error().reason, "a whiteout as a parent directory");
}

TEST(EntryPath, AufsBookkeepingIsIgnored) {
  EXPECT_EQ(parse_entry_path(".wh..wh.plnk")->meaning, PathMeaning::kIgnored);
  EXPECT_EQ(parse_entry_path(".wh..wh.plnk/12.34")->meaning, PathMeaning::kIgnored);
  EXPECT_EQ(parse_entry_path(".wh..wh.aufs")->meaning, PathMeaning::kIgnored);
}

TEST(LinkPath, ALeadingSlashIsTheRootOfTheLayer) {
  EXPECT_EQ(*parse_link_path("/usr/bin/x"), "usr/bin/x");
  EXPECT_EQ(*parse_link_path("./usr//bin/x"), "usr/bin/x");
  EXPECT_FALSE(parse_link_path("../x"));
  EXPECT_FALSE(parse_link_path(""));
  EXPECT_FALSE(parse_link_path("/"));
}

TEST(ShownName, ControlBytesAreSpelledOutAndLongNamesCut) {
  EXPECT_EQ(shown_name("a\nb\x7f\xc3"), "a\\x0ab\\x7f\\xc3");
  EXPECT_EQ(shown_name(std::string(300, 'x')), std::string(256, 'x') + "...");
}

}  // namespace
}  // namespace layerfs::image
