// SPDX-License-Identifier: Apache-2.0
#include "fs/store/record_file.h"

#include <fcntl.h>

#include <utility>

#include "fs/base/sys_file.h"

namespace layerfs::store {

namespace {

constexpr Dbi kRecords{0};
/// Blocks kept ready behind the end of the file, so that a batch can still be written on a full disk.
constexpr off_t kReservedBytes = off_t{1} << 20;

class TxnWriter final : public RecordFile::Writer {
 public:
  explicit TxnWriter(WriteTxn& txn) : txn_(txn) {}

  Result<void> put(std::string_view key, std::string_view value) override {
    LAYERFS_TRY(txn_.put(kRecords, key, value));
    return {};
  }
  Result<void> erase(std::string_view key) override {
    LAYERFS_TRY(txn_.erase(kRecords, key));
    return {};
  }
  Result<void> erase_prefix(std::string_view prefix) override {
    LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn_, kRecords));
    for (;;) {
      // Searched anew each time: where the cursor stands after the last record of a page is erased is LMDB's
      // secret.
      LAYERFS_ASSIGN(const bool found, cursor.find_at_or_after(prefix));
      if (!found || !cursor.key().starts_with(prefix)) return {};
      LAYERFS_TRY(cursor.erase());
    }
  }

 private:
  WriteTxn& txn_;
};

}  // namespace

RecordFile::RecordFile(std::string path, RecordFileMode mode) : path_(std::move(path)), mode_(mode) {}
RecordFile::~RecordFile() = default;

Result<std::unique_ptr<RecordFile>> RecordFile::open(const std::string& path, RecordFileMode mode) {
  std::unique_ptr<RecordFile> file(new RecordFile(path, mode));
  LAYERFS_TRY(file->open_env());
  return file;
}

Result<void> RecordFile::open_env() {
  if (env_) return {};
  EnvOptions options;
  options.single_file = true;
  options.no_lock = true;
  options.read_only = mode_ == RecordFileMode::kReadOnly;
  options.no_sync = mode_ == RecordFileMode::kVolatile;
  LAYERFS_ASSIGN(env_, Env::open(path_, options));
  return {};
}

Result<void> RecordFile::for_each(
    FunctionRef<Result<void>(std::string_view key, std::string_view value)> visit) {
  LAYERFS_TRY(open_env());
  LAYERFS_ASSIGN(const ReadTxn txn, ReadTxn::begin(*env_));
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn, kRecords));
  for (auto more = cursor.first();; more = cursor.next()) {
    if (!more) return with_context(more.error(), "read", path_);
    if (!*more) return {};
    LAYERFS_TRY(visit(cursor.key(), cursor.value()));
  }
}

Result<std::optional<std::string>> RecordFile::find(std::string_view key) {
  LAYERFS_TRY(open_env());
  LAYERFS_ASSIGN(const ReadTxn txn, ReadTxn::begin(*env_));
  LAYERFS_ASSIGN(const auto found, txn.find(kRecords, key));
  if (!found) return std::optional<std::string>{};
  return std::optional<std::string>(std::string(*found));
}

Result<void> RecordFile::update(FunctionRef<Result<void>(Writer& writer)> fill) {
  if (mode_ == RecordFileMode::kReadOnly) return errno_error(EROFS);
  LAYERFS_TRY(open_env());
  {
    LAYERFS_ASSIGN(WriteTxn txn, WriteTxn::begin(*env_));
    TxnWriter writer(txn);
    LAYERFS_TRY(fill(writer));
    if (auto committed = txn.commit(); !committed) {
      // When its meta page could not be written LMDB refuses further transactions: a fresh environment reads
      // the last good one again.
      env_.reset();
      return with_context(committed.error(), "write", path_);
    }
  }
  if (mode_ == RecordFileMode::kDurable) {
    // What can't be had now is not missed now: then the next update on a full disk says so.
    if (auto st = stat_fd(env_->data_fd()); st)
      static_cast<void>(fallocate(env_->data_fd(), FALLOC_FL_KEEP_SIZE, st->st_size, kReservedBytes));
  }
  // Readers take a file that is shorter than its pages for damaged (lmdb.cc, fill_up).
  static_cast<void>(env_->fill_up());
  return {};
}

}  // namespace layerfs::store
