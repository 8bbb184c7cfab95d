// SPDX-License-Identifier: Apache-2.0
#include "fs/store/lmdb.h"

#include <fcntl.h>
#include <lmdb.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "fs/base/check.h"
#include "fs/base/fd.h"
#include "fs/base/sys_file.h"

namespace layerfs::store {

namespace {

std::unexpected<Error> lmdb_error(int code, std::string_view operation, std::string_view subject = {}) {
  switch (code) {
    case MDB_MAP_FULL: {
      auto error = system_error(ENOSPC, operation, subject);
      error.error().reason = "the database has reached the size of its map";
      return error;
    }
    case MDB_READERS_FULL: {
      auto error = system_error(EAGAIN, operation, subject);
      error.error().reason = "too many readers at once";
      return error;
    }
    case MDB_PANIC: {
      auto error = system_error(EIO, operation, subject);
      error.error().reason = "an earlier write to the database failed; it has to be opened again";
      return error;
    }
    case MDB_MAP_RESIZED: {
      auto error = system_error(ENOMEM, operation, subject);
      error.error().reason =
          "another process has let the database grow beyond the address space that it has here";
      return error;
    }
    case MDB_VERSION_MISMATCH: return unsupported_error(operation, subject, mdb_strerror(code));
    default: break;
  }
  // LMDB's own codes are negative and all say that the file's bytes make no sense; errnos are positive.
  if (code < 0) return corrupt_error(operation, subject, mdb_strerror(code));
  return system_error(code, operation, subject);
}

MDB_val to_val(std::string_view view) { return {view.size(), const_cast<char*>(view.data())}; }
std::string_view to_view(const MDB_val& value) {
  return {static_cast<const char*>(value.mv_data), value.mv_size};
}
bool is_key(std::string_view key) { return !key.empty() && key.size() <= kMaxKey; }

/// A quarter of the address space that is allowed, where it is limited: others need some too.
std::uint64_t allowed_map_size(std::uint64_t wanted, std::uint64_t present) {
  struct rlimit limit{};
  std::uint64_t size = std::max(wanted, present);
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
    size = std::min<std::uint64_t>(size, std::max<std::uint64_t>(limit.rlim_cur / 4, present * 2));
  auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::max((size + page - 1) / page * page, 16 * page);
}

/// LMDB makes the lock file sparse and writes it through a map: on a full disk the first touch would be
/// SIGBUS. Allocated beforehand it is an ENOSPC here. Requires: this process has the Env not open.
Result<void> allocate_lock_file(const std::string& path, unsigned max_readers) {
  LAYERFS_ASSIGN(Fd fd, open_file(path, O_RDWR | O_CREAT, 0600));
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd.get()));
  // 64 bytes a reader and less than that for the head (lmdb.h: one cache line each).
  auto wanted = static_cast<off_t>((std::uint64_t{max_readers} + 8) * 64);
  if (st.st_blocks * 512 >= wanted) return {};
  int code = ::posix_fallocate(fd.get(), 0, std::max(wanted, st.st_size));
  if (code != 0 && code != EOPNOTSUPP && code != EINVAL) return system_error(code, "allocate", path);
  return {};
}

/// Every locked Env of this process by device and inode of its data file (header, invariant 4). This is the
/// one mutable global of the folder: the rule that it serves is one of the process, not of an object. Opening
/// and closing happen under `mutex`, so that a close never overlaps the next open of the same file.
struct OpenEnvs {
  struct Open {
    std::shared_ptr<Env> env;
    std::size_t users = 0;
  };
  using Key = std::tuple<dev_t, ino_t, pid_t>;  // after fork(2) the parent's are not the child's
  std::mutex mutex;
  std::map<Key, Open> envs;
};
OpenEnvs& open_envs() {
  static auto* envs = new OpenEnvs;  // never destroyed: an Env may outlive static objects
  return *envs;
}

/// One more user of a registered Env. Requires: the registry's mutex.
std::shared_ptr<Env> share_locked(OpenEnvs& registry, const OpenEnvs::Key& key) {
  auto& open = registry.envs.at(key);
  ++open.users;
  return {open.env.get(), [key](Env*) {
            auto& envs = open_envs();
            std::lock_guard lock(envs.mutex);
            auto found = envs.envs.find(key);
            if (--found->second.users == 0) envs.envs.erase(found);
          }};
}

}  // namespace

Result<std::shared_ptr<Env>> Env::open(const std::string& path, const EnvOptions& options) {
  if (options.no_lock) return open_new(path, options);
  auto& registry = open_envs();
  std::lock_guard lock(registry.mutex);
  std::string data = options.single_file ? path : join_path(path, "data.mdb");
  struct stat st{};
  if (::stat(data.c_str(), &st) == 0) {
    OpenEnvs::Key key{st.st_dev, st.st_ino, ::getpid()};
    auto found = registry.envs.find(key);
    if (found != registry.envs.end()) {
      if (options.read_only || !found->second.env->read_only()) return share_locked(registry, key);
      return system_error(EROFS, "open database for writing", data);
    }
  }
  LAYERFS_ASSIGN(auto env, open_new(path, options));
  LAYERFS_ASSIGN(st, stat_fd(env->data_fd()));
  OpenEnvs::Key key{st.st_dev, st.st_ino, ::getpid()};
  registry.envs[key].env = std::move(env);
  return share_locked(registry, key);
}

Result<std::shared_ptr<Env>> Env::open_new(const std::string& path, const EnvOptions& options) {
  std::string data = options.single_file ? path : join_path(path, "data.mdb");
  struct stat st{};
  bool present = ::stat(data.c_str(), &st) == 0;
  if (!present && options.read_only) return system_error(ENOENT, "open database", data);
  if (!options.no_lock && !options.read_only) {
    std::string lock_path = options.single_file ? path + "-lock" : join_path(path, "lock.mdb");
    LAYERFS_TRY(allocate_lock_file(lock_path, options.max_readers));
  }
  std::shared_ptr<Env> env(new Env);
  env->read_only_ = options.read_only;
  env->pid_ = ::getpid();
  if (int rc = mdb_env_create(&env->env_); rc != 0) return lmdb_error(rc, "open database", data);
  auto size = static_cast<std::uint64_t>(st.st_size);
  mdb_env_set_mapsize(env->env_, allowed_map_size(options.map_size, size));
  mdb_env_set_maxreaders(env->env_, options.max_readers);
  mdb_env_set_maxdbs(env->env_, static_cast<unsigned>(options.databases.size()));
  unsigned flags = MDB_NOTLS;
  if (options.read_only) flags |= MDB_RDONLY;
  if (options.single_file) flags |= MDB_NOSUBDIR;
  if (options.no_lock) flags |= MDB_NOLOCK;
  if (options.no_sync) flags |= MDB_NOSYNC;
  if (options.no_read_ahead) flags |= MDB_NORDAHEAD;
  if (int rc = mdb_env_open(env->env_, path.c_str(), flags, 0600); rc != 0)
    return lmdb_error(rc, "open database", data);
  LAYERFS_ASSIGN(std::uint64_t missing, env->missing_bytes());
  if (missing != 0 && options.read_only) return corrupt_error("open database", data, "the file is cut short");
  if (missing != 0) LAYERFS_TRY(env->fill_up());
  if (auto opened = env->open_databases(options.databases); !opened)
    return with_context(opened.error(), "open database", data);
  return env;
}

Result<std::uint64_t> Env::missing_bytes() const {
  MDB_envinfo info;
  MDB_stat stat;
  mdb_env_info(env_, &info);
  mdb_env_stat(env_, &stat);
  LAYERFS_ASSIGN(struct stat st, stat_fd(data_fd()));
  std::uint64_t wanted = (std::uint64_t{info.me_last_pgno} + 1) * stat.ms_psize;
  return static_cast<std::uint64_t>(st.st_size) < wanted ? wanted - static_cast<std::uint64_t>(st.st_size)
                                                         : 0;
}

// A look at a page beyond the end of the file would be SIGBUS. Since LMDB may leave the last pages of a
// transaction unwritten, a short file is no proof of damage: it is filled up, and a page that really was lost
// then reads as zeros, which LMDB reports as corrupt.
Result<void> Env::fill_up() const {
  LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*this));  // no other writer extends it meanwhile
  LAYERFS_ASSIGN(std::uint64_t missing, missing_bytes());
  if (missing == 0) return {};
  LAYERFS_ASSIGN(struct stat st, stat_fd(data_fd()));
  int code = ::posix_fallocate(data_fd(), st.st_size, static_cast<off_t>(missing));
  if (code == EOPNOTSUPP || code == EINVAL)
    code = ::ftruncate(data_fd(), st.st_size + static_cast<off_t>(missing)) == 0 ? 0 : errno;
  if (code != 0) return system_error(code, "extend database");
  return {};
}

Result<void> Env::open_databases(const std::vector<std::string>& names) {
  LAYERFS_ASSIGN(MDB_txn * raw, Txn::begin_raw(*this, read_only_));
  std::unique_ptr<MDB_txn, decltype(&mdb_txn_abort)> txn(raw, &mdb_txn_abort);
  unsigned handle = 0;
  unsigned flags = read_only_ ? 0U : unsigned{MDB_CREATE};
  if (names.empty()) {
    if (int rc = mdb_dbi_open(raw, nullptr, 0, &handle); rc != 0)
      return lmdb_error(rc, "open the main database");
    handles_.push_back(handle);
  }
  for (const auto& name : names) {
    int rc = mdb_dbi_open(raw, name.c_str(), flags, &handle);
    if (rc == MDB_NOTFOUND) return corrupt_error("open database", name, "it is missing");
    if (rc != 0) return lmdb_error(rc, "open database", name);
    handles_.push_back(handle);
  }
  // Commit frees it, whether it succeeds or not.
  if (int rc = mdb_txn_commit(txn.release()); rc != 0) return lmdb_error(rc, "commit");
  return {};
}

Env::~Env() {
  if (env_ == nullptr) return;
  // In a forked child the parent's map and descriptors are only dropped: mdb_env_close would clear the
  // parent's reader slots' owner. The child's exit releases them.
  if (pid_ == ::getpid()) mdb_env_close(env_);
}

Result<unsigned> Env::free_dead_readers() const {
  int dead = 0;
  if (int rc = mdb_reader_check(env_, &dead); rc != 0) return lmdb_error(rc, "check readers");
  return static_cast<unsigned>(dead);
}

int Env::data_fd() const {
  int fd = -1;
  mdb_env_get_fd(env_, &fd);
  return fd;
}

Txn::Txn(Txn&& other) noexcept : env_(other.env_), txn_(std::exchange(other.txn_, nullptr)) {}
Txn& Txn::operator=(Txn&& other) noexcept {
  if (this != &other) {
    if (txn_ != nullptr) mdb_txn_abort(txn_);
    env_ = other.env_;
    txn_ = std::exchange(other.txn_, nullptr);
  }
  return *this;
}
Txn::~Txn() {
  if (txn_ != nullptr) mdb_txn_abort(txn_);
}

Result<MDB_txn*> Txn::begin_raw(const Env& env, bool read_only) {
  MDB_txn* txn = nullptr;
  int rc = mdb_txn_begin(env.env_, nullptr, read_only ? unsigned{MDB_RDONLY} : 0U, &txn);
  if (rc == MDB_READERS_FULL) {
    int dead = 0;
    mdb_reader_check(env.env_, &dead);
    rc = mdb_txn_begin(env.env_, nullptr, read_only ? unsigned{MDB_RDONLY} : 0U, &txn);
  }
  if (rc != 0) return lmdb_error(rc, "begin transaction");
  return txn;
}

Result<std::optional<std::string_view>> Txn::find(Dbi database, std::string_view key) const {
  if (!is_key(key)) return std::nullopt;
  MDB_val wanted = to_val(key);
  MDB_val value;
  int rc = mdb_get(txn_, handle(database), &wanted, &value);
  if (rc == MDB_NOTFOUND) return std::nullopt;
  if (rc != 0) return lmdb_error(rc, "read database");
  return to_view(value);
}

Result<std::uint64_t> Txn::count(Dbi database) const {
  MDB_stat stat;
  if (int rc = mdb_stat(txn_, handle(database), &stat); rc != 0) return lmdb_error(rc, "read database");
  return stat.ms_entries;
}

Result<ReadTxn> ReadTxn::begin(const Env& env) {
  LAYERFS_ASSIGN(MDB_txn * txn, begin_raw(env, true));
  return ReadTxn(env, txn);
}

void ReadTxn::reset() { mdb_txn_reset(txn_); }

Result<void> ReadTxn::renew() {
  if (int rc = mdb_txn_renew(txn_); rc != 0) return lmdb_error(rc, "begin transaction");
  return {};
}

Result<WriteTxn> WriteTxn::begin(const Env& env) {
  LAYERFS_CHECK(env.pid_ == ::getpid());
  if (env.read_only()) return system_error(EROFS, "change database");
  LAYERFS_ASSIGN(MDB_txn * txn, begin_raw(env, false));
  return WriteTxn(env, txn);
}

Result<bool> WriteTxn::put(Dbi database, std::string_view key, std::string_view value, PutMode mode) {
  if (!is_key(key)) return invalid_error("write database", {}, "a key of this length cannot be stored");
  MDB_val wanted = to_val(key);
  MDB_val stored = to_val(value);
  unsigned flags = mode == PutMode::kInsert ? unsigned{MDB_NOOVERWRITE} : 0U;
  if (mode == PutMode::kAppend) flags = MDB_APPEND;
  int rc = mdb_put(txn_, handle(database), &wanted, &stored, flags);
  if (rc == MDB_KEYEXIST && mode == PutMode::kInsert) return false;
  LAYERFS_CHECK(rc != MDB_KEYEXIST);  // kAppend out of order
  if (rc != 0) return lmdb_error(rc, "write database");
  return true;
}

Result<bool> WriteTxn::erase(Dbi database, std::string_view key) {
  if (!is_key(key)) return false;
  MDB_val wanted = to_val(key);
  int rc = mdb_del(txn_, handle(database), &wanted, nullptr);
  if (rc == MDB_NOTFOUND) return false;
  if (rc != 0) return lmdb_error(rc, "write database");
  return true;
}

Result<void> WriteTxn::clear(Dbi database) {
  if (int rc = mdb_drop(txn_, handle(database), 0); rc != 0) return lmdb_error(rc, "clear database");
  return {};
}

Result<void> WriteTxn::commit() {
  LAYERFS_CHECK(txn_ != nullptr);
  // mdb_txn_commit frees the handle whether it succeeds or not.
  if (int rc = mdb_txn_commit(std::exchange(txn_, nullptr)); rc != 0) return lmdb_error(rc, "commit");
  return {};
}

Result<Cursor> Cursor::open(const Txn& txn, Dbi database) {
  MDB_cursor* cursor = nullptr;
  if (int rc = mdb_cursor_open(txn.txn_, txn.handle(database), &cursor); rc != 0)
    return lmdb_error(rc, "open cursor");
  return Cursor(cursor);
}

Cursor::Cursor(Cursor&& other) noexcept
    : cursor_(std::exchange(other.cursor_, nullptr)), key_(other.key_), value_(other.value_) {}
Cursor& Cursor::operator=(Cursor&& other) noexcept {
  if (this != &other) {
    if (cursor_ != nullptr) mdb_cursor_close(cursor_);
    cursor_ = std::exchange(other.cursor_, nullptr);
    key_ = other.key_;
    value_ = other.value_;
  }
  return *this;
}
Cursor::~Cursor() {
  if (cursor_ != nullptr) mdb_cursor_close(cursor_);
}

Result<bool> Cursor::move(std::string_view wanted, int operation) {
  MDB_val key = to_val(wanted);
  MDB_val value{};
  int rc = mdb_cursor_get(cursor_, &key, &value, static_cast<MDB_cursor_op>(operation));
  if (rc == MDB_NOTFOUND) {
    key_ = value_ = {};
    return false;
  }
  if (rc != 0) return lmdb_error(rc, "read database");
  key_ = to_view(key);
  value_ = to_view(value);
  return true;
}

Result<bool> Cursor::first() { return move({}, MDB_FIRST); }
Result<bool> Cursor::last() { return move({}, MDB_LAST); }
Result<bool> Cursor::next() { return move({}, MDB_NEXT); }
Result<bool> Cursor::find(std::string_view key) {
  if (!is_key(key)) return false;
  return move(key, MDB_SET_KEY);
}
Result<bool> Cursor::find_at_or_after(std::string_view key) {
  if (key.empty()) return first();
  if (key.size() > kMaxKey)
    return invalid_error("read database", {}, "a key of this length cannot be stored");
  return move(key, MDB_SET_RANGE);
}

Result<void> Cursor::erase() {
  if (int rc = mdb_cursor_del(cursor_, 0); rc != 0) return lmdb_error(rc, "write database");
  return {};
}

Result<void> Cursor::renew(const ReadTxn& txn) {
  if (int rc = mdb_cursor_renew(txn.txn_, cursor_); rc != 0) return lmdb_error(rc, "open cursor");
  return {};
}

}  // namespace layerfs::store
