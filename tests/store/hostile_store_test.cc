// SPDX-License-Identifier: Apache-2.0
// A store that was damaged, or prepared by whoever owns its directory: nothing is followed, waited for, or
// served.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "fs/store/sparse_name.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

std::string large(char byte) { return std::string(200'000, byte); }

class HostileStore : public testing::Test {
 protected:
  void SetUp() override {
    root_ = directory_.path() + "/store";
    victim_ = directory_.path() + "/victim";
    auto store = value_of(Store::open(root_, StoreAccess::kWrite));
    image_ = value_of(write_image(*store, "localhost/a:1", {{{"large", large('a')}, {"small", "s"}}}));
    value_of(store->get_tree(diff_ids_of(image_)));
    fs::create_directories(victim_ + "/sub");
    for (const char* name : {"precious", "sub/precious", "0123456789abcdef", "ffffffffffffffff"})
      ASSERT_DONE(write_file_atomic(victim_ + "/" + name, "precious", 0600));
    ASSERT_DONE(write_file_atomic(victim_ + "/" + std::string(64, 'e'), "precious", 0600));
  }
  void expect_precious() const {
    for (const std::string& name :
         {std::string("precious"), std::string("sub/precious"), std::string("0123456789abcdef"),
          std::string("ffffffffffffffff"), std::string(64, 'e')})
      EXPECT_EQ(read_file(victim_ + "/" + name).value_or("gone"), "precious") << name;
  }
  /// Whatever a command does, one after another.
  void use_everything() const {
    auto store = Store::open(root_, StoreAccess::kWrite);
    if (!store) return;
    static_cast<void>((*store)->gc());
    static_cast<void>(write_image(**store, "localhost/b:1", {{{"large", large('b')}, {"small", "t"}}}));
    static_cast<void>((*store)->get_tree(diff_ids_of(image_)));
    static_cast<void>((*store)->check(CheckDepth::kContents));
    static_cast<void>((*store)->usage());
    static_cast<void>((*store)->remove_image("localhost/a:1"));
    static_cast<void>((*store)->gc());
  }
  std::string object_path() const { return object_path_of(sha256(large('a'))); }
  std::string object_path_of(const Digest& digest) const {
    return root_ + "/objects/" + digest.hex().substr(0, 2) + "/" + digest.hex();
  }

  TemporaryDirectory directory_;
  std::string root_;
  std::string victim_;
  ImageRecord image_;
};

TEST_F(HostileStore, ADirectoryThatIsALinkIsRefusedAndNothingHappensBehindIt) {
  for (const char* name :
       {"tmp", "packs", "layers", "trees", "blobs", "blobs/sha256", "objects", "containers", "catalog"}) {
    std::string path = root_ + "/" + name;
    fs::rename(path, root_ + "/aside");
    fs::create_directory_symlink(victim_, path);
    for (StoreAccess access : {StoreAccess::kRead, StoreAccess::kWrite}) {
      auto opened = Store::open(root_, access);
      ASSERT_FALSE(opened) << name;
      EXPECT_THAT(opened.error().message(), HasSubstr(path)) << name;
    }
    use_everything();
    expect_precious();
    fs::remove(path);
    fs::rename(root_ + "/aside", path);
  }
  ASSERT_DONE(Store::open(root_, StoreAccess::kRead));
}

TEST_F(HostileStore, LinksBelowItsDirectoriesAreNotFollowed) {
  std::string layer = root_ + "/layers/" + image_.layers[0].diff_id.hex();
  std::string pack = fs::directory_iterator(root_ + "/packs")->path().string();
  std::string tree = root_ + "/trees/" + image_.chain.hex();
  for (const std::string& path :
       {object_path(), fs::path(object_path()).parent_path().string(), pack, layer, layer + "/records", tree,
        root_ + "/blobs/sha256/" + image_.config.hex(), root_ + "/lock", root_ + "/format",
        root_ + "/catalog/data.mdb", root_ + "/catalog/lock.mdb"}) {
    fs::path kept = root_ + ".kept";
    fs::remove_all(kept);
    fs::copy(root_, kept, fs::copy_options::recursive);
    fs::remove_all(victim_ + "/moved");
    fs::rename(path, victim_ + "/moved");  // the very bytes that belong there, by a link
    fs::create_symlink(victim_ + "/moved", path);
    auto bytes =
        fs::is_directory(victim_ + "/moved") ? Result<std::string>("") : read_file(victim_ + "/moved");
    use_everything();
    expect_precious();
    ASSERT_TRUE(fs::exists(victim_ + "/moved")) << path;
    if (!fs::is_directory(victim_ + "/moved")) {
      EXPECT_EQ(*read_file(victim_ + "/moved"), *bytes) << path;
    }
    fs::remove_all(root_);
    fs::rename(kept, root_);
  }
}

TEST_F(HostileStore, WhatIsNoFileIsNotWaitedFor) {
  for (const std::string& path :
       {object_path(), root_ + "/format", root_ + "/lock", root_ + "/blobs/sha256/" + image_.config.hex(),
        root_ + "/catalog/data.mdb", root_ + "/trees/" + image_.chain.hex()}) {
    fs::path kept = root_ + ".kept";
    fs::remove_all(kept);
    fs::copy(root_, kept, fs::copy_options::recursive);
    fs::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    use_everything();  // and ends
    fs::remove_all(root_);
    fs::rename(kept, root_);
  }
}

TEST_F(HostileStore, ACatalogThatIsGoneOrEmptyIsDamageNotAnEmptyStore) {
  std::string data = root_ + "/catalog/data.mdb";
  for (bool removed : {true, false}) {
    if (removed) {
      fs::remove(data);
    } else {
      ASSERT_EQ(::close(::open(data.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600)), 0);
    }
    for (StoreAccess access : {StoreAccess::kRead, StoreAccess::kWrite}) {
      auto opened = Store::open(root_, access);
      ASSERT_FALSE(opened);
      EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
      EXPECT_THAT(opened.error().message(),
                  HasSubstr("catalog/data.mdb': the file is " + std::string(removed ? "missing" : "empty")));
    }
  }
}

TEST_F(HostileStore, ACreationThatWasInterruptedGoesOn) {
  fs::remove(root_ + "/format");
  fs::remove_all(root_ + "/catalog");
  auto store = Store::open(root_, StoreAccess::kWrite);
  ASSERT_TRUE(store) << store.error().message();
  EXPECT_TRUE((*store)->list_images()->empty());
}

TEST_F(HostileStore, AFileThatWasChangedIsNotServedHandedOnOrCalledSound) {
  auto store = value_of(Store::open(root_, StoreAccess::kWrite));
  Digest digest = sha256(large('a'));
  ASSERT_TRUE(store->objects().open(digest));
  // A copy of the store has other times: what is as it was is served, and marked again.
  struct timespec times[2] = {{0, UTIME_OMIT}, {12345, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, object_path().c_str(), times, 0), 0);
  ASSERT_TRUE(store->objects().open(digest));
  EXPECT_EQ((*find_stat_at(AT_FDCWD, object_path(), 0))->st_mtime, 1);

  Fd file = value_of(open_file(object_path(), O_RDWR));
  ASSERT_DONE(pwrite_full(file.get(), as_bytes("X"), 100'000));
  auto opened = store->objects().open(digest);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
  EXPECT_THAT(opened.error().message(), HasSubstr("its bytes have another digest"));
  EXPECT_FALSE(store->objects().verify(digest));
  EXPECT_FALSE(value_of(store->check(CheckDepth::kContents)).problems.empty());

  // A bit that turned on the disk itself changes no time: who hands the bytes on, and check, look at them
  // all.
  times[1] = {1, 0};
  ASSERT_EQ(::futimens(file.get(), times), 0);
  EXPECT_TRUE(store->objects().open(digest));
  EXPECT_FALSE(store->objects().verify(digest));
  EXPECT_FALSE(value_of(store->check(CheckDepth::kContents)).problems.empty());
  EXPECT_TRUE(value_of(store->check(CheckDepth::kStructure)).problems.empty());
}

TEST_F(HostileStore, APackedContentThatTurnedIsSeenByWhoVerifies) {
  auto store = value_of(Store::open(root_, StoreAccess::kWrite));
  std::string pack = fs::directory_iterator(root_ + "/packs")->path().string();
  Fd file = value_of(open_file(pack, O_RDWR));
  auto size = static_cast<std::uint64_t>((*stat_fd(file.get())).st_size);
  ASSERT_DONE(pwrite_full(file.get(), as_bytes("X"), size - 1));
  EXPECT_FALSE(store->objects().verify(sha256("s")));
}

TEST_F(HostileStore, CheckReadsOneStateBesideCommitAndRemoval) {
  auto store = value_of(Store::open(root_, StoreAccess::kWrite));
  std::atomic<bool> stop{false};
  std::jthread changer([&] {
    for (int i = 0; !stop; ++i) {
      value_of(write_image(*store, "localhost/z:1", {{{"f", std::to_string(i)}}}));
      value_of(store->remove_image("localhost/z:1"));
      ContainerRecord container;
      container.id = sha256(std::to_string(i)).hex();
      container.name = "c" + std::to_string(i);
      container.chain = image_.chain;
      container.layers = diff_ids_of(image_);
      value_of(store->add_container(container));
      value_of(store->remove_container(container.id));
    }
  });
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(800);
  while (std::chrono::steady_clock::now() < end) {
    auto report = value_of(store->check(CheckDepth::kStructure));
    for (const auto& problem : report.problems) ADD_FAILURE() << problem.subject << ": " << problem.reason;
    if (HasFailure()) break;
  }
  stop = true;
}

TEST(SparseName, IsOfTheContentHoweverItIsGiven) {
  std::string content = std::string(100, 'a') + std::string(300'000, '\0') + "b" + std::string(70'000, '\0');
  SparseNamer whole;
  whole.data(as_bytes(content));
  Digest name = whole.finish();
  SparseNamer parts;
  parts.data(as_bytes(std::string_view(content).substr(0, 50)));
  parts.data(as_bytes(std::string_view(content).substr(50, 50)));
  parts.hole(100'000);
  parts.hole(200'000);
  parts.data(as_bytes("b"));
  parts.hole(70'000);
  EXPECT_EQ(parts.finish(), name);
  EXPECT_NE(name, sha256(content));

  TemporaryDirectory directory;
  for (bool holes : {true, false}) {
    std::string path = directory.path() + (holes ? "/holes" : "/whole");
    Fd file = value_of(open_file(path, O_RDWR | O_CREAT, 0600));
    if (!holes) {
      ASSERT_DONE(pwrite_full(file.get(), as_bytes(content), 0));
    }
    ASSERT_DONE(pwrite_full(file.get(), as_bytes(std::string_view(content).substr(0, 100)), 0));
    ASSERT_DONE(pwrite_full(file.get(), as_bytes("b"), 300'100));
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(content.size())), 0);
    EXPECT_EQ(value_of(sparse_name_of(file.get(), content.size())), name);
  }
}

TEST(SparseName, TellsContentsApart) {
  std::vector<Digest> names;
  auto add = [&](std::string_view data, std::uint64_t hole, std::string_view more) {
    SparseNamer namer;
    namer.data(as_bytes(data));
    namer.hole(hole);
    namer.data(as_bytes(more));
    names.push_back(namer.finish());
  };
  for (std::uint64_t hole : {0, 1, 65535, 65536, 65537, 131072, 1 << 30}) {
    add("", hole, "");
    add("a", hole, "");
    add("", hole, "a");
    add("a", hole, "a");
  }
  std::sort(names.begin(), names.end());
  // With no hole "a" then nothing and nothing then "a" are one content.
  EXPECT_EQ(std::unique(names.begin(), names.end()) - names.begin(), static_cast<long>(7 * 4 - 1));
}

}  // namespace
}  // namespace layerfs::store
