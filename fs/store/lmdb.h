// SPDX-License-Identifier: Apache-2.0
// LMDB as RAII values: Env, ReadTxn, WriteTxn, Cursor. lmdb.cc is the only file that includes <lmdb.h>.
//
// (1) Views that a Txn or a Cursor gives point into the map: they die with the transaction, and a WriteTxn's
//     with its next change.
// (2) An Env may be used from any thread, a Txn and its Cursors from one thread at a time (read ones may move
//     between threads: MDB_NOTLS). A WriteTxn ends in the thread that began it.
// (3) An Env must not cross fork(2): a child opens its own.
// (4) LMDB forbids opening one locked environment twice in a process (the second close would drop the first
//     one's fcntl locks), so Env::open gives the one that is open already.
// (5) A read transaction keeps the pages of its moment from being reused: short ones only, except on files
//     that never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/base/result.h"

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

namespace layerfs::store {

/// A database of an Env: the index of its name in EnvOptions::databases.
enum class Dbi : unsigned {};

/// Longest key that LMDB takes, and the only forbidden other length is 0.
inline constexpr std::size_t kMaxKey = 511;

struct EnvOptions {
  /// Address space kept for the map, so the most the file can grow to, by another process too while this one
  /// only reads; the file's size where that is more. It is cut down where RLIMIT_AS leaves less.
  std::uint64_t map_size = std::uint64_t{64} << 30;
  /// Named databases; created where the Env is writable. Empty: the unnamed one, Dbi{0}.
  std::vector<std::string> databases;
  unsigned max_readers = 1024;
  bool read_only = false;
  bool single_file = false;  ///< `path` is the data file itself (MDB_NOSUBDIR), not a directory
  bool no_lock = false;      ///< no lock file: the caller excludes writers and other openers itself
  bool no_sync = false;      ///< commits do not wait for the disk; who opens it flushes the file
  bool no_read_ahead = false;
};

class Env {
 public:
  /// Opens, and creates where it is writable. Errors: ENOENT, EACCES, ENOSPC; kCorrupt (not an LMDB file, or
  /// cut short); kUnsupported (a file of another LMDB format).
  static Result<std::shared_ptr<Env>> open(const std::string& path, const EnvOptions& options);
  Env(const Env&) = delete;
  Env& operator=(const Env&) = delete;
  ~Env();

  /// Makes the file as long as LMDB counts its pages (it may leave freed ones at the end unwritten).
  Result<void> fill_up() const;
  /// Frees the reader slots of processes that died; returns how many.
  Result<unsigned> free_dead_readers() const;
  /// Descriptor of the data file, for fstat(2) and flock(2).
  int data_fd() const;
  bool read_only() const { return read_only_; }

 private:
  friend class Txn;
  friend class WriteTxn;
  Env() = default;
  static Result<std::shared_ptr<Env>> open_new(const std::string& path, const EnvOptions& options);
  Result<void> open_databases(const std::vector<std::string>& names);
  Result<std::uint64_t> missing_bytes() const;

  MDB_env* env_ = nullptr;
  std::vector<unsigned> handles_;
  bool read_only_ = false;
  int pid_ = 0;
};

/// What both kinds of transaction can do.
class Txn {
 public:
  Txn(Txn&& other) noexcept;
  Txn& operator=(Txn&& other) noexcept;
  Txn(const Txn&) = delete;
  Txn& operator=(const Txn&) = delete;

  /// The value of `key`; nullopt: it is not there (also for a key of length 0 or above kMaxKey).
  Result<std::optional<std::string_view>> find(Dbi database, std::string_view key) const;
  /// Number of entries.
  Result<std::uint64_t> count(Dbi database) const;

 protected:
  friend class Cursor;
  friend class Env;
  Txn(const Env& env, MDB_txn* txn) : env_(&env), txn_(txn) {}
  ~Txn();
  static Result<MDB_txn*> begin_raw(const Env& env, bool read_only);
  unsigned handle(Dbi database) const { return env_->handles_[static_cast<unsigned>(database)]; }

  const Env* env_;
  MDB_txn* txn_;
};

class ReadTxn : public Txn {
 public:
  static Result<ReadTxn> begin(const Env& env);
  /// Lets go of the moment but keeps the reader slot: much cheaper than a new transaction.
  void reset();
  /// The present moment. Requires: reset().
  Result<void> renew();

 private:
  using Txn::Txn;
};

enum class PutMode : std::uint8_t {
  kUpsert,
  kInsert,  ///< an existing key stays as it is
  kAppend,  ///< the key is greater than all others (checked)
};

/// Destroyed without commit(): nothing happened.
class WriteTxn : public Txn {
 public:
  /// Waits for another writer, also of another process.
  static Result<WriteTxn> begin(const Env& env);
  /// False with kInsert where the key was there. Errors: ENOSPC (disk or map full), EINVAL (key length).
  Result<bool> put(Dbi database, std::string_view key, std::string_view value,
                   PutMode mode = PutMode::kUpsert);
  /// False where it was not there.
  Result<bool> erase(Dbi database, std::string_view key);
  /// Removes every entry.
  Result<void> clear(Dbi database);
  /// Makes it so, durably unless the Env has no_sync. Errors: ENOSPC, EIO: nothing happened.
  Result<void> commit();

 private:
  using Txn::Txn;
};

/// A position in a database. Requires: destroyed before its transaction ends (a read transaction's may live
/// on, unused, and be renewed).
class Cursor {
 public:
  static Result<Cursor> open(const Txn& txn, Dbi database);
  Cursor(Cursor&& other) noexcept;
  Cursor& operator=(Cursor&& other) noexcept;
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor();

  /// Each moves the cursor; false: there is no such entry, and key() and value() are empty.
  Result<bool> first();
  Result<bool> last();
  Result<bool> next();
  Result<bool> find(std::string_view key);
  Result<bool> find_at_or_after(std::string_view key);
  /// Removes the entry at the cursor; next() then goes to the one after it. Requires: a WriteTxn.
  Result<void> erase();

  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }
  /// Puts the cursor into a renewed read transaction.
  Result<void> renew(const ReadTxn& txn);

 private:
  explicit Cursor(MDB_cursor* cursor) : cursor_(cursor) {}
  Result<bool> move(std::string_view key, int operation);

  MDB_cursor* cursor_;
  std::string_view key_;
  std::string_view value_;
};

}  // namespace layerfs::store
