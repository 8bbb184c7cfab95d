// SPDX-License-Identifier: Apache-2.0
#include "fs/upper/delta_entries.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace layerfs::upper {
namespace {

using tree::EntryState;
using tree::Ino;
using tree::NodeKind;
using Key = std::pair<std::uint64_t, std::string>;

Key key_of(const std::string& name) { return {to_number(tree::name_cookie(name)), name}; }

std::vector<Key> listed(const DeltaEntries& entries, std::uint64_t after) {
  std::vector<Key> found;
  entries.list(tree::DirCookie{after}, [&](const tree::UpperEntryView& view) {
    found.emplace_back(to_number(view.cookie), view.name);
    return true;
  });
  return found;
}

TEST(DeltaEntries, AgreesWithAMapThroughRandomChanges) {
  std::mt19937_64 random(3);
  DeltaEntries entries;
  std::map<Key, std::uint64_t> model;
  for (int step = 0; step < 60'000; ++step) {
    const std::string name = "f" + std::to_string(random() % 4000);
    if (random() % 3 != 0) {
      const std::uint64_t ino = random();
      entries.put(name, {EntryState::kPresent, Ino{ino}, NodeKind::kRegular});
      model[key_of(name)] = ino;
    } else {
      entries.erase(name);
      model.erase(key_of(name));
    }
  }
  std::vector<Key> all;
  for (const auto& [key, ino] : model) {
    all.push_back(key);
    const auto found = entries.find(key.second);
    EXPECT_EQ(found.state, EntryState::kPresent);
    EXPECT_EQ(to_number(found.ino), ino);
  }
  EXPECT_EQ(listed(entries, 0), all);
  EXPECT_EQ(entries.find("not there").state, EntryState::kAbsent);
  for (int round = 0; round < 100; ++round) {
    const std::uint64_t after = all[random() % all.size()].first;
    std::vector<Key> rest;
    for (const Key& key : all)
      if (key.first > after) rest.push_back(key);
    EXPECT_EQ(listed(entries, after), rest);
  }
  for (const Key& key : all) entries.erase(key.second);
  EXPECT_TRUE(entries.empty());
  EXPECT_TRUE(listed(entries, 0).empty());
}

TEST(DeltaEntries, TombstoneTakesThePlaceOfAnEntry) {
  DeltaEntries entries;
  entries.put("a", {EntryState::kPresent, Ino{5}, NodeKind::kDirectory});
  entries.put("a", {EntryState::kTombstone, Ino{0}, NodeKind::kRegular});
  EXPECT_EQ(entries.find("a").state, EntryState::kTombstone);
  EXPECT_EQ(listed(entries, 0).size(), 1U);
}

TEST(DeltaEntries, AVisitorCanStop) {
  DeltaEntries entries;
  for (int i = 0; i < 300; ++i)
    entries.put(std::to_string(i), {EntryState::kPresent, Ino{1}, NodeKind::kRegular});
  int seen = 0;
  entries.list(tree::kDirStart, [&](const tree::UpperEntryView&) { return ++seen < 150; });
  EXPECT_EQ(seen, 150);
}

}  // namespace
}  // namespace layerfs::upper
