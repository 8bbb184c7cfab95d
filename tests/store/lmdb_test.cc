// SPDX-License-Identifier: Apache-2.0
// The LMDB wrapper: transactions, cursors, one environment a process, files that are not what they should be.
#include "fs/store/lmdb.h"

#include <fcntl.h>
#include <sys/wait.h>

#include <thread>

#include "fs/store/session_pool.h"
#include "tests/store/support.h"

namespace layerfs::store {
namespace {

constexpr Dbi kMain{0};

EnvOptions file_options() {
  EnvOptions options;
  options.single_file = true;
  options.map_size = std::uint64_t{64} << 20;
  return options;
}

class LmdbTest : public testing::Test {
 protected:
  LmdbTest() : path_(directory_.path() + "/db") {}
  std::shared_ptr<Env> open() { return value_of(Env::open(path_, file_options())); }
  static void put(const Env& env, std::string_view key, std::string_view value) {
    auto txn = value_of(WriteTxn::begin(env));
    value_of(txn.put(kMain, key, value));
    value_of(txn.commit());
  }
  TemporaryDirectory directory_;
  std::string path_;
};

TEST_F(LmdbTest, CommitsAndAborts) {
  auto env = open();
  {
    auto txn = value_of(WriteTxn::begin(*env));
    EXPECT_TRUE(value_of(txn.put(kMain, "a", "1")));
    EXPECT_TRUE(value_of(txn.put(kMain, "b", "2", PutMode::kInsert)));
    EXPECT_FALSE(value_of(txn.put(kMain, "b", "3", PutMode::kInsert)));
    EXPECT_EQ(value_of(txn.find(kMain, "b")), "2");
    ASSERT_DONE(txn.commit());
  }
  {
    auto txn = value_of(WriteTxn::begin(*env));
    EXPECT_TRUE(value_of(txn.erase(kMain, "a")));
    EXPECT_FALSE(value_of(txn.erase(kMain, "none")));
  }
  auto txn = value_of(ReadTxn::begin(*env));
  EXPECT_EQ(value_of(txn.find(kMain, "a")), "1");
  EXPECT_EQ(value_of(txn.count(kMain)), 2U);
}

TEST_F(LmdbTest, KeysOfAnUnfitLengthAreNotThere) {
  auto env = open();
  std::string too_long(kMaxKey + 1, 'k');
  auto writing = value_of(WriteTxn::begin(*env));
  EXPECT_EQ(writing.put(kMain, "", "x").error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(writing.put(kMain, too_long, "x").error().kind, ErrorKind::kInvalid);
  EXPECT_TRUE(value_of(writing.put(kMain, std::string(kMaxKey, 'k'), "x")));
  EXPECT_FALSE(value_of(writing.find(kMain, "")).has_value());
  EXPECT_FALSE(value_of(writing.find(kMain, too_long)).has_value());
}

TEST_F(LmdbTest, CursorsGoInOrder) {
  auto env = open();
  for (std::string_view key : {"b", "d", "f"}) put(*env, key, key);
  auto txn = value_of(ReadTxn::begin(*env));
  auto cursor = value_of(Cursor::open(txn, kMain));
  EXPECT_TRUE(value_of(cursor.first()));
  EXPECT_EQ(cursor.key(), "b");
  EXPECT_TRUE(value_of(cursor.next()));
  EXPECT_EQ(cursor.value(), "d");
  EXPECT_TRUE(value_of(cursor.find_at_or_after("e")));
  EXPECT_EQ(cursor.key(), "f");
  EXPECT_FALSE(value_of(cursor.next()));
  EXPECT_FALSE(value_of(cursor.find_at_or_after("g")));
  EXPECT_FALSE(value_of(cursor.find("c")));
  EXPECT_TRUE(value_of(cursor.last()));
  EXPECT_EQ(cursor.key(), "f");
  EXPECT_TRUE(value_of(cursor.find_at_or_after("")));
  EXPECT_EQ(cursor.key(), "b");
}

TEST_F(LmdbTest, AReaderSeesItsMomentUntilItIsRenewed) {
  auto env = open();
  put(*env, "key", "old");
  auto txn = value_of(ReadTxn::begin(*env));
  put(*env, "key", "new");
  EXPECT_EQ(value_of(txn.find(kMain, "key")), "old");
  txn.reset();
  ASSERT_DONE(txn.renew());
  EXPECT_EQ(value_of(txn.find(kMain, "key")), "new");
}

TEST_F(LmdbTest, OneProcessHasOneEnvironmentOfAFile) {
  auto first = open();
  auto second = open();
  EXPECT_EQ(first.get(), second.get());
  put(*first, "key", "value");
  first.reset();
  EXPECT_EQ(value_of(value_of(ReadTxn::begin(*second)).find(kMain, "key")), "value");
  second.reset();
  auto third = open();
  EXPECT_EQ(value_of(value_of(ReadTxn::begin(*third)).find(kMain, "key")), "value");
}

TEST_F(LmdbTest, ThreadsOpenAndCloseOneFile) {
  open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) put(*open(), std::to_string(t) + "-" + std::to_string(i), "x");
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(value_of(value_of(ReadTxn::begin(*open())).count(kMain)), 80U);
}

TEST_F(LmdbTest, AChildOpensItsOwn) {
  auto env = open();
  put(*env, "key", "parent");
  pid_t child = ::fork();
  if (child == 0) {
    // The parent's object is of no use here; a new one is, and writes beside the parent.
    auto mine = Env::open(path_, file_options());
    bool other = mine && mine->get() != env.get();
    if (other) put(**mine, "child", "was here");
    ::_exit(other ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(value_of(value_of(ReadTxn::begin(*env)).find(kMain, "child")), "was here");
  put(*env, "key", "still works");
}

TEST_F(LmdbTest, AFullMapIsNoSpace) {
  EnvOptions options = file_options();
  options.map_size = 1 << 20;
  auto env = value_of(Env::open(path_, options));
  auto txn = value_of(WriteTxn::begin(*env));
  Result<bool> last = true;
  for (int i = 0; i < 1000 && last; ++i) last = txn.put(kMain, std::to_string(i), std::string(4000, 'x'));
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, ENOSPC);
}

TEST_F(LmdbTest, FilesThatAreNoDatabaseAreCorrupt) {
  {
    auto fd = value_of(open_file(path_, O_WRONLY | O_CREAT, 0600));
    value_of(write_full(fd.get(), as_bytes(random_bytes(20'000, 1))));
  }
  auto opened = Env::open(path_, file_options());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().kind, ErrorKind::kCorrupt);
}

TEST_F(LmdbTest, AReadOnlyFileThatIsCutShortIsCorrupt) {
  {
    auto env = open();
    for (int i = 0; i < 500; ++i) put(*env, std::to_string(i), std::string(100, 'x'));
  }
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2 / 4096 * 4096);
  EnvOptions options = file_options();
  options.read_only = options.no_lock = true;
  EXPECT_EQ(Env::open(path_, options).error().kind, ErrorKind::kCorrupt);
}

TEST_F(LmdbTest, AWritableFileThatIsCutShortIsAnErrorOfWhatIsLost) {
  {
    auto env = open();
    for (int i = 0; i < 500; ++i) put(*env, std::to_string(i), std::string(1000, 'x'));
  }
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2 / 4096 * 4096);
  auto env = Env::open(path_, file_options());
  if (!env) return;
  auto txn = ReadTxn::begin(**env);
  if (!txn) return;
  int lost = 0;
  for (int i = 0; i < 500; ++i) lost += txn->find(kMain, std::to_string(i)) ? 0 : 1;
  EXPECT_GT(lost, 0);
}

TEST_F(LmdbTest, AReaderSeesWhatAnotherProcessLetItGrowTo) {
  EnvOptions options = file_options();
  put(*open(), "first", "1");
  options.read_only = true;
  auto reader = value_of(Env::open(path_, options));
  EXPECT_TRUE(value_of(ReadTxn::begin(*reader)).find(kMain, "first"));
  // The child has an environment of its own (lmdb.h, 3).
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto env = Env::open(path_, file_options());
    bool done = env.has_value();
    auto txn = done ? WriteTxn::begin(**env) : Result<WriteTxn>(std::unexpected(Error{}));
    done = txn.has_value();
    for (int i = 0; done && i < 2000; ++i)
      done = txn->put(kMain, std::to_string(i), std::string(4000, 'x')).has_value();
    ::_exit(done && txn->commit() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  auto txn = ReadTxn::begin(*reader);
  ASSERT_TRUE(txn) << txn.error().message();
  auto last = txn->find(kMain, "1999");
  ASSERT_TRUE(last) << last.error().message();
  EXPECT_EQ(*last, std::string(4000, 'x'));
}

TEST_F(LmdbTest, AReadOnlyOpenOfNothingIsENOENT) {
  EnvOptions options = file_options();
  options.read_only = true;
  EXPECT_EQ(Env::open(path_, options).error().code, ENOENT);
}

TEST(SessionPoolTest, ASessionIsUsedByOneThreadAtATime) {
  struct Session {
    std::atomic<int> users{0};
  };
  SessionPool<Session, 2> pool;
  std::atomic<int> wrong{0};
  std::atomic<int> made{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) {
        auto kept = pool.take();
        if (!kept) {
          kept = std::make_unique<Session>();
          ++made;
        }
        SessionPool<Session, 2>::Held held(pool, std::move(kept));
        if (held->users.fetch_add(1) != 0) ++wrong;
        held->users.fetch_sub(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LT(made, 8000);
}

}  // namespace
}  // namespace layerfs::store
