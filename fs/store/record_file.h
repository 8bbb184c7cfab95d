// SPDX-License-Identifier: Apache-2.0
// RecordFile: ordered records (key -> value) in one LMDB file, for owners that keep everything in memory and
// want it on disk in one transaction at a time. The upper's delta is one (fs/upper/DELTA.md).
//
// (1) One writer at a time, and it is the caller's business to see to that (a lock file): LMDB's own locks
// are
//     off, so that it works on network file systems and leaves no second file. for_each and find may be
//     called from other threads, but not while update() runs.
// (2) update() is atomic: after an error, or a crash at any instant, the file holds the records from before.
//     With kDurable it is on disk when update() returns.
// (3) A reader in another process sees one moment, as long as no writer commits twice meanwhile. It checks
//     what it read (the values' own checksums, a version record read last).
// (4) Not to be used across fork(2).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/store/lmdb.h"

namespace layerfs::store {

enum class RecordFileMode : std::uint8_t {
  kReadOnly,  ///< must be there
  kDurable,   ///< created where it is not there; update() flushes
  kVolatile,  ///< created where it is not there; nothing is flushed
};

class RecordFile {
 public:
  /// Opens `path`. Errors: ENOENT (read-only), kCorrupt (not such a file, or cut short), EACCES, ENOSPC...
  static Result<std::unique_ptr<RecordFile>> open(const std::string& path, RecordFileMode mode);
  ~RecordFile();
  RecordFile(const RecordFile&) = delete;
  RecordFile& operator=(const RecordFile&) = delete;

  /// Every record in bytewise order of the keys; an error from `visit` stops and is returned. Views die when
  /// the visitor returns. Errors: kCorrupt, EIO.
  Result<void> for_each(FunctionRef<Result<void>(std::string_view key, std::string_view value)> visit);
  Result<std::optional<std::string>> find(std::string_view key);

  /// Changes inside update(). Keys: 1 to kMaxKey bytes (lmdb.h).
  class Writer {
   public:
    virtual ~Writer() = default;
    virtual Result<void> put(std::string_view key, std::string_view value) = 0;
    /// Nothing there is success.
    virtual Result<void> erase(std::string_view key) = 0;
    /// Erases every key that begins with `prefix`.
    virtual Result<void> erase_prefix(std::string_view prefix) = 0;
  };

  /// One transaction: `fill` makes the changes, then they are committed; an error from it undoes them. `fill`
  /// may be called again from the start (the map had to grow). Errors: ENOSPC, EDQUOT, EIO, kCorrupt.
  Result<void> update(FunctionRef<Result<void>(Writer& writer)> fill);

 private:
  RecordFile(std::string path, RecordFileMode mode);
  Result<void> open_env();

  const std::string path_;
  const RecordFileMode mode_;
  std::shared_ptr<Env> env_;  // null after a commit that failed, until the next use
};

}  // namespace layerfs::store
