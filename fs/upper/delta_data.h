// SPDX-License-Identifier: Apache-2.0
// DeltaData: the data files of a delta, data/xx/<ino> and data/xx/s<number>. Any thread.
//
// (1) While somebody holds a descriptor of a file, open_data gives the same one.
// (2) A removed file stays readable through the descriptors that are held. A place in a shared file does not:
//     it becomes zeros.
// (3) A place that nobody uses (used_) holds zeros, in a file that is there or in none.
#pragma once

#include <sys/types.h>

#include <bitset>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/base/fd.h"
#include "fs/base/function_ref.h"
#include "fs/base/result.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/data_name.h"
#include "fs/upper/delta_tuning.h"

namespace layerfs::upper {

enum class DataAccess : std::uint8_t { kReadOnly, kReadWrite };

class DeltaData {
 public:
  /// `directory` holds data/, which is made where it is not there (not for kReadOnly).
  static Result<std::unique_ptr<DeltaData>> open(const std::string& directory, DataAccess access,
                                                 SyncOps& sync);

  DataAccess access() const { return access_; }

  /// Errors: ENOSPC, EDQUOT, EMFILE, EIO.
  Result<std::shared_ptr<const Fd>> create(tree::Ino ino);
  /// Errors: ENOENT, EMFILE, EIO.
  Result<std::shared_ptr<const Fd>> open(tree::Ino ino) const;
  /// A place of zeros. Errors: ENOSPC, EDQUOT, EMFILE, EIO.
  Result<tree::DataPlace> create_shared(tree::Ino ino);
  /// Errors: ENOENT (no file), EMFILE, EIO.
  Result<tree::DataPlace> open_shared(tree::Ino ino) const;
  /// These have places already: before anything else is done with a delta that is opened.
  void note_shared(std::span<const tree::Ino> inos);

  /// Takes the places of all others away: of what was never put.
  Result<void> keep_shared(std::span<const tree::Ino> inos);

  /// What is to be removed once that is durable; for the functions above it is gone.
  void doom(std::span<const DataName> names);
  /// True while something is.
  bool has_doomed() const;
  /// Removes those that are still doomed; nothing there is success.
  Result<void> remove_doomed(std::span<const DataName> names);
  /// Calls `is_wanted` for the inode of each file of one inode and removes those that are not, shared files
  /// in which nobody has a place, what is in places that nobody has, and what has no data file's name.
  Result<void> remove_unless(FunctionRef<bool(tree::Ino ino)> is_wanted);

  /// Up to `length` bytes from `offset` of its data. Errors: ENOENT (no file), EMFILE, EIO.
  Result<std::string> read(const DataName& name, std::uint64_t offset, std::size_t length) const;
  /// Puts bytes back that a crash took, in a file that may have gone as well. Errors: ENOSPC, EDQUOT, EIO.
  Result<void> restore(const DataName& name, std::uint64_t offset, std::string_view bytes);

  /// Errors: kCorrupt: something else lies at the name of a directory of data files; EIO...
  Result<void> check_directories() const;
  /// True where the data file is at least as long as it takes for `length` bytes of that data. Errors:
  /// kCorrupt: it is not there, or is no regular file; EIO...
  Result<bool> reaches(const DataName& name, std::uint64_t length) const;
  /// Makes it so, by a hole. Errors: kCorrupt, EFBIG, EIO...
  Result<void> make_reach(const DataName& name, std::uint64_t length);

  /// Flushes the files of these and the directories of those that are new: one by one, or, where they are
  /// many, by a flush of the file system. A file that is not there is not missed.
  Result<void> flush(std::span<const DataName> names);
  /// Flushes all that there is.
  Result<void> flush_all();

 private:
  using Places = std::bitset<kSharers>;

  DeltaData(Fd dir, DataAccess access, SyncOps& sync);
  static std::uint8_t directory_of(const DataFile& file);
  static std::string name_of(const DataFile& file);
  static tree::DataPlace place_of(tree::Ino ino, std::shared_ptr<const Fd> file);
  static std::optional<DataFile> find_file(std::string_view name);

  int open_flags() const;
  Result<std::shared_ptr<const Fd>> open_locked(const DataFile& file, int flags) const;
  Result<std::shared_ptr<const Fd>> create_locked(const DataFile& file);
  Result<void> remove_locked(const DataFile& file);
  Result<void> give_back_locked(const DataFile& file, const Places& places);
  Result<void> keep_used_places(const DataFile& file);
  Result<void> flush_new_directories();

  const Fd dir_;
  const DataAccess access_;
  SyncOps& sync_;
  /// Guards what follows; held over open(2) of a file, so that two openers of one share a descriptor.
  std::mutex directories_mutex_;  // held while new directories are flushed; mutex_ is taken under it
  mutable std::mutex mutex_;
  mutable std::unordered_map<DataFile, std::weak_ptr<const Fd>, DataFileHash> held_;
  mutable std::size_t sweep_at_ = 256;              // the size of held_ at which the dead ones are dropped
  std::unordered_set<std::uint64_t> doomed_;        // files of one inode
  std::unordered_map<std::uint64_t, Places> used_;  // by the shared file's number
  std::unordered_map<std::uint64_t, Places> doomed_places_;  // those of used_ that are to be given back
  std::bitset<256> new_in_;                                  // directories with files not yet flushed
  bool made_directories_ = false;
};

}  // namespace layerfs::upper
