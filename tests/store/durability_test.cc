// SPDX-License-Identifier: Apache-2.0
// The order in which a writer's bytes, names and rows reach the disk (FORMAT.md): what a power failure leaves
// depends on it, and no test that only kills processes can see a flush that is missing.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "tests/store/fault_points.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using fault::Event;

class Durability : public testing::Test {
 protected:
  void SetUp() override { store_ = value_of(Store::open(root_, StoreAccess::kWrite)); }

  /// What happened from now to the end of `work`, paths relative to the store.
  template <class Work>
  void record(Work work) {
    fault::record_events();
    work();
    events_ = fault::take_events();
    for (auto& event : events_)
      for (std::string* path : {&event.path, &event.to})
        if (path->starts_with(root_ + "/")) path->erase(0, root_.size() + 1);
  }
  /// The index of the first event at or after `from` of which `path` is flushed, alone or with the whole file
  /// system; the number of events where there is none.
  std::size_t flush_of(const std::string& path, std::size_t from = 0) const {
    for (std::size_t i = from; i < events_.size(); ++i)
      if (events_[i].call == "syncfs" || (events_[i].call != "rename" && events_[i].path == path)) return i;
    return events_.size();
  }
  std::vector<std::size_t> renames_into(const std::string& directory) const {
    std::vector<std::size_t> found;
    for (std::size_t i = 0; i < events_.size(); ++i)
      if (events_[i].call == "rename" && events_[i].to.starts_with(directory + "/")) found.push_back(i);
    return found;
  }
  /// Bytes before the name, the name's directory after it, and both before the catalog is committed next.
  void expect_named_durably(const std::string& directory, std::size_t count) {
    auto renames = renames_into(directory);
    EXPECT_EQ(renames.size(), count) << directory;
    for (std::size_t at : renames) {
      const Event& rename = events_[at];
      EXPECT_LT(flush_of(rename.path), at) << rename.path << " has its name before its bytes are on disk";
      std::size_t parent = flush_of(rename.to.substr(0, rename.to.rfind('/')), at);
      EXPECT_LT(parent, events_.size()) << "the directory of " << rename.to << " is not flushed";
      std::size_t commit = at;
      while (commit < events_.size() && events_[commit].path != "catalog/data.mdb") ++commit;
      EXPECT_LT(parent, commit) << "the catalog is committed before the directory of " << rename.to;
    }
  }
  std::size_t last_commit() const {
    std::size_t at = events_.size();
    while (at > 0 && events_[at - 1].path != "catalog/data.mdb") --at;
    return at;
  }

  TemporaryDirectory directory_;
  std::string root_ = directory_.path() + "/store";
  std::unique_ptr<Store> store_;
  std::vector<Event> events_;
};

TEST_F(Durability, ObjectsPacksLayersBlobsAndDirectoriesAreOnDiskBeforeTheCatalogNamesThem) {
  ImageRecord image;
  record([&] {
    image = value_of(write_image(*store_, "localhost/a:1",
                                 {{{"large", std::string(100'000, 'a')}, {"small", "s"}, {"other", "o"}}}));
  });
  expect_named_durably("objects", 1);
  expect_named_durably("packs", 1);
  expect_named_durably("layers", 1);
  expect_named_durably("blobs/sha256", 2);
  EXPECT_EQ(last_commit(), events_.size()) << "something comes after the image has its name";
  // A layer is a directory: its files come before it.
  std::string layer = events_[renames_into("layers").at(0)].path;
  std::size_t renamed = renames_into("layers").at(0);
  EXPECT_LT(flush_of(layer + "/records"), renamed);
  EXPECT_LT(flush_of(layer + "/framing"), renamed);
}

TEST_F(Durability, ManyLargeObjectsAreFlushedTogether) {
  std::vector<TestFile> files;
  for (int i = 0; i < 40; ++i)
    files.push_back({"f" + std::to_string(i), std::string(70'000, 'a') + std::to_string(i)});
  record([&] { value_of(write_image(*store_, "localhost/a:1", {files})); });
  expect_named_durably("objects", 40);
}

TEST_F(Durability, ATreeIsOnDiskBeforeItHasItsName) {
  auto image = value_of(write_image(*store_, "localhost/a:1", {{{"f", "x"}}}));
  record([&] { value_of(store_->get_tree(diff_ids_of(image))); });
  auto renames = renames_into("trees");
  ASSERT_EQ(renames.size(), 1U);
  EXPECT_LT(flush_of(events_[renames[0]].path), renames[0]);
  EXPECT_LT(flush_of("trees", renames[0]), events_.size());
}

TEST_F(Durability, ANewStoreIsOnDiskBeforeItSaysSo) {
  store_.reset();
  root_ = directory_.path() + "/new";
  record([&] { store_ = value_of(Store::open(root_, StoreAccess::kWrite)); });
  auto format = std::find_if(events_.begin(), events_.end(), [](const Event& event) {
    return event.call == "rename" && event.to == "format";
  });
  ASSERT_NE(format, events_.end());
  auto at = static_cast<std::size_t>(format - events_.begin());
  for (const char* path : {"objects", "blobs", "catalog", "catalog/data.mdb"})
    EXPECT_LT(flush_of(path), at) << path;
  EXPECT_LT(flush_of(format->path), at) << "format has its name before its bytes are on disk";
  EXPECT_LT(flush_of(root_, at), events_.size());
}

TEST_F(Durability, APackThatCollectionWritesAnewIsOnDiskBeforeTheOldOneGoes) {
  std::vector<TestFile> files{{"kept", random_bytes(5000, 1)}};
  for (std::uint64_t i = 0; i < 20; ++i)
    files.push_back({"f" + std::to_string(i), random_bytes(5000, 100 + i)});
  value_of(write_image(*store_, "localhost/a:1", {files}));
  value_of(write_image(*store_, "localhost/b:1", {{files[0]}}));
  ASSERT_DONE(store_->remove_image("localhost/a:1"));
  record([&] { EXPECT_EQ(value_of(store_->gc()).objects_removed, 20U); });
  expect_named_durably("packs", 1);
}

TEST_F(Durability, AContainersDirectoryIsOnDiskBeforeItsRow) {
  ContainerRecord container;
  container.id = std::string(64, 'a');
  container.name = "c";
  record([&] { value_of(store_->add_container(container)); });
  EXPECT_LT(flush_of("containers"), last_commit() - 1);
}

TEST(FaultPointsTest, CallsAreCountedAndFail) {
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  fault::arm(fault::Action::kFail, 2);
  EXPECT_EQ(::write(pipe_fds[1], "x", 1), 1);
  EXPECT_EQ(::write(pipe_fds[1], "x", 1), -1);
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_EQ(::write(pipe_fds[1], "x", 1), 1);
  EXPECT_EQ(fault::disarm(), 3);
  EXPECT_EQ(::write(pipe_fds[1], "x", 1), 1);
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
}

}  // namespace
}  // namespace layerfs::store
