// SPDX-License-Identifier: Apache-2.0
// A writer is killed, or the disk full, at every single call that changes the file system: what was there
// stays whole, and gc brings the store back to exactly the files that it had before.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>

#include <chrono>
#include <functional>
#include <thread>

#include "tests/base/time_bound.h"
#include "tests/store/fault_points.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

using fault::Action;

// Every call in an ordinary build; sanitizers see the same code paths at each fifth.
constexpr int kStep = kSanitized ? 5 : 1;
using Work = std::function<Result<void>(Store&)>;

class CrashTest : public StoreTest {
 protected:
  CrashTest() {
    value_of(write_image(*store_, "localhost/base:1", {{{"a", "small"}, {"b", random_bytes(70'000, 1)}}}));
    value_of(store_->get_tree(diff_ids_of(*value_of(store_->find_image("localhost/base:1")))));
    value_of(store_->gc());
    baseline_ = files_of(root_);
    store_.reset();
  }

  /// Runs `work` on the store in a child that is killed at call `at`; true where it ended by itself.
  bool run_killed(const Work& work, int at) {
    pid_t child = ::fork();
    if (child == 0) {
      fault::arm(Action::kKill, at);
      auto store = Store::open(root_, StoreAccess::kWrite);
      bool done = store && work(**store);
      store = std::unexpected(Error{});  // closes it, which also writes
      ::_exit(done ? 0 : 1);
    }
    int status = -1;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0) << "at " << at;
      return true;
    }
    EXPECT_EQ(WTERMSIG(status), SIGKILL) << "at " << at;
    return false;
  }

  /// The base image is whole, nothing is damaged, and without the names of what `work` made nothing is left.
  void expect_whole(int at) {
    SCOPED_TRACE("stopped at call " + std::to_string(at));
    auto store = value_of(Store::open(root_, StoreAccess::kWrite));
    EXPECT_EQ(problems_of(*store), "");
    for (const auto& image : value_of(store->list_images())) {
      if (image.reference == "localhost/base:1") continue;
      // A name means that all of it is there.
      EXPECT_TRUE(store->get_tree(diff_ids_of(image)));
      EXPECT_EQ(problems_of(*store), "");
      value_of(store->remove_image(image.reference.empty() ? image.manifest.str() : image.reference));
    }
    for (const auto& container : value_of(store->list_containers()))
      value_of(store->remove_container(container.id));
    value_of(store->gc());
    EXPECT_EQ(problems_of(*store), "");
    EXPECT_EQ(files_of(root_), baseline_);
    EXPECT_TRUE(std::filesystem::is_empty(path("tmp")));
    EXPECT_TRUE(std::filesystem::is_empty(path("containers")));
    auto base = value_of(store->find_image("localhost/base:1"));
    ASSERT_TRUE(base.has_value());
    auto tree = value_of(store->get_tree(diff_ids_of(*base)));
    auto entry = value_of(tree->find_entry(tree::kRootIno, "a"));
    EXPECT_EQ(read_blob(value_of(store->objects().open(entry->node.object))), "small");
  }

  void kill_everywhere(const Work& work) {
    int at = 1;
    for (; !run_killed(work, at) && !HasFailure(); at += kStep) expect_whole(at);
    expect_whole(at);
    EXPECT_GT(at, 5);
  }

  void fail_everywhere(Action action, const Work& work) {
    int failures = 0;
    for (int at = 1; !HasFailure(); at += kStep) {
      fault::arm(action, at);
      auto store = Store::open(root_, StoreAccess::kWrite);
      auto done = store ? work(**store) : Result<void>(std::unexpected(store.error()));
      if (store) *store = nullptr;
      int calls = fault::disarm();
      failures += done ? 0 : 1;
      EXPECT_TRUE(done || done.error().code == ENOSPC) << done.error().message();
      expect_whole(at);
      if (calls < at) break;  // it was not reached any more
    }
    EXPECT_GT(failures, 5);
  }

  std::vector<std::string> baseline_;
};

/// Two layers with small and large contents, one of them shared with the base, a tree, a tag and a container.
Result<void> import_all(Store& store) {
  LAYERFS_ASSIGN(auto image, write_image(store, "localhost/new:1",
                                         {{{"a", "small"}, {"c", "other"}, {"d", random_bytes(80'000, 2)}},
                                          {{"e", random_bytes(90'000, 3)}, {"f", "f"}}}));
  LAYERFS_TRY(store.get_tree(diff_ids_of(image)));
  ContainerRecord container;
  container.id = std::string(64, 'c');
  container.name = "container";
  container.image_manifest = image.manifest;
  container.image_config = image.config;
  container.chain = image.chain;
  container.layers = diff_ids_of(image);
  return store.add_container(container);
}

Result<void> import_and_remove(Store& store) {
  LAYERFS_TRY(import_all(store));
  LAYERFS_TRY(store.remove_container(std::string(64, 'c')));
  LAYERFS_TRY(store.remove_image("localhost/new:1"));
  LAYERFS_TRY(store.gc());
  return {};
}

/// A pack of which gc keeps a little, so that it writes it anew.
Result<void> import_half_and_collect(Store& store) {
  std::vector<TestFile> files{{"kept", "kept content"}};
  for (std::uint64_t i = 0; i < 5; ++i)
    files.push_back({"f" + std::to_string(i), random_bytes(3000, 50 + i)});
  LAYERFS_TRY(write_image(store, "localhost/first:1", {files}));
  LAYERFS_TRY(write_image(store, "localhost/second:1", {{{"kept", "kept content"}}}));
  LAYERFS_TRY(store.remove_image("localhost/first:1"));
  LAYERFS_TRY(store.gc());
  return {};
}

TEST_F(CrashTest, AnImportIsKilledAtEveryCall) { kill_everywhere(import_all); }
TEST_F(CrashTest, ARemovalAndGcAreKilledAtEveryCall) { kill_everywhere(import_and_remove); }
TEST_F(CrashTest, ARewriteOfAPackIsKilledAtEveryCall) { kill_everywhere(import_half_and_collect); }
TEST_F(CrashTest, EveryCallOfAnImportFailsOnce) { fail_everywhere(Action::kFail, import_all); }
TEST_F(CrashTest, TheDiskIsFullFromEveryCallOn) { fail_everywhere(Action::kFull, import_all); }

TEST(CreationCrashTest, ACreationIsKilledAtEveryCall) {
  for (int at = 1; at < 2000; at = at < 20 || at > 255 ? at + 1 : at + 47) {
    TemporaryDirectory directory;
    std::string root = directory.path() + "/store";
    pid_t child = ::fork();
    if (child == 0) {
      fault::arm(Action::kKill, at);
      bool done = Store::open(root, StoreAccess::kWrite).has_value();
      ::_exit(done ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    auto store = value_of(Store::open(root, StoreAccess::kWrite));
    value_of(write_image(*store, "localhost/a:1", {{{"a", random_bytes(70'000, 1)}}}));
    value_of(store->gc());
    EXPECT_EQ(problems_of(*store), "") << at;
    std::vector<std::string> left;
    for (const auto& entry : std::filesystem::directory_iterator(root))
      if (entry.path().filename().string().starts_with("format.")) left.push_back(entry.path());
    EXPECT_TRUE(left.empty());
    if (WIFEXITED(status)) {
      EXPECT_EQ(WEXITSTATUS(status), 0);
      return;
    }
  }
  FAIL() << "creating a store never ends";
}

/// False: what went wrong is on stderr, of a child whose assertions nobody sees.
template <class T>
bool went_well(const Result<T>& result, const char* what) {
  if (!result) fmt::print(stderr, "{}: {}\n", what, result.error().message());
  return result.has_value();
}

// A collection removes the temporaries of creations that were killed: one that is under way must not have any
// then.
TEST(ConcurrencyTest, ACreationWaitsForACollection) {
  TemporaryDirectory directory;
  std::string root = directory.path() + "/store";
  value_of(Store::open(root, StoreAccess::kWrite));
  ASSERT_EQ(::unlink((root + "/format").c_str()), 0);
  Fd collection = value_of(open_file(root + "/lock", O_RDWR));
  ASSERT_TRUE(value_of(lock_file(collection.get(), LockMode::kExclusive, LockWait::kNo)));
  bool opened = false;
  std::thread creator([&] { opened = Store::open(root, StoreAccess::kWrite).has_value(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  for (const auto& entry : std::filesystem::directory_iterator(root))
    EXPECT_FALSE(entry.path().filename().string().starts_with("format")) << entry.path();
  collection.reset();
  creator.join();
  EXPECT_TRUE(opened);
}

TEST(ConcurrencyTest, ProcessesImportAndCollectAtOnce) {
  TemporaryDirectory directory;
  std::string root = directory.path() + "/store";
  constexpr int kWriters = 3;
  std::vector<pid_t> children;
  for (int w = 0; w <= kWriters; ++w) {
    pid_t child = ::fork();
    if (child == 0) {
      bool done = true;
      for (int round = 0; round < 6 && done; ++round) {
        auto store = Store::open(root, StoreAccess::kWrite);
        done = went_well(store, "open");
        if (!done) break;
        if (w == kWriters) {
          auto collected = (*store)->gc();
          done = (!collected && collected.error().code == EBUSY) || went_well(collected, "gc");
          continue;
        }
        // A layer that all write, one of the writer's own, and one that comes and goes.
        std::string mine = std::to_string(w);
        std::string name = "localhost/" + mine;
        const std::vector<std::vector<TestFile>> layers{
            {{"shared", "by all"}, {"large", random_bytes(70'000, 1)}}, {{"own", mine}}};
        done =
            went_well(write_image(**store, name + ":1", layers), "write") &&
            went_well(write_image(**store, name + ":2", {{{"round", mine + std::to_string(round)}}}),
                      "write") &&
            went_well((*store)->get_tree(diff_ids_of(*(*store)->find_image(name + ":1").value())), "tree") &&
            went_well((*store)->remove_image(name + ":2"), "remove");
      }
      ::_exit(done ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  auto store = value_of(Store::open(root, StoreAccess::kWrite));
  EXPECT_EQ(problems_of(*store), "");
  value_of(store->gc());
  EXPECT_EQ(problems_of(*store), "");
  EXPECT_EQ(value_of(store->list_images()).size(), static_cast<std::size_t>(kWriters));
  // Shared twice over, each writer's own, nothing of what went: 2 objects and kWriters more.
  EXPECT_EQ(value_of(store->check(CheckDepth::kStructure)).objects_checked, 2U + kWriters);
}

}  // namespace
}  // namespace layerfs::store
