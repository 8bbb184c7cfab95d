// SPDX-License-Identifier: Apache-2.0
// DeltaState: the records of a delta in memory. No locks, no files: DeltaUpper guards it (shared for the
// const functions, exclusive for the others).
//
// (1) It grows with what changed: about 120 bytes a node, 32 bytes and the name an entry.
// (2) Applying changes n..m once more, in order, to a state that has all up to n-1 and any of n..m gives the
//     state at m (DELTA.md, "checkpoint").
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "fs/base/function_ref.h"
#include "fs/tree/upper_layer.h"
#include "fs/upper/data_name.h"
#include "fs/upper/delta_entries.h"
#include "fs/upper/delta_extents.h"

namespace layerfs::upper {

/// What a change means for data files.
struct DataEffects {
  std::vector<tree::Ino> to_flush;  ///< files whose data the change names, and which were not marked before
  bool names_data = false;          ///< it names the data of a file, marked or not
  std::vector<DataName> erased;     ///< their data files or places are to be removed
  std::uint64_t erased_bytes = 0;
};

class DeltaState {
 public:
  std::optional<tree::Node> find_node(tree::Ino ino) const;
  tree::UpperEntry find_entry(tree::Ino dir, std::string_view name) const;
  void list_entries(tree::Ino dir, tree::DirCookie after,
                    FunctionRef<bool(const tree::UpperEntryView&)> visit) const;
  tree::XattrState find_xattr(tree::Ino ino, std::string_view name, std::string& value) const;
  void list_xattrs(tree::Ino ino,
                   FunctionRef<bool(std::string_view, tree::XattrState, std::string_view)> visit) const;
  const std::string* find_inline(tree::Ino ino) const;
  std::vector<tree::Extent> extents(tree::Ino ino) const;
  std::vector<tree::Extent> extents_within(tree::Ino ino, std::uint64_t begin, std::uint64_t end) const;
  std::vector<tree::Ino> orphans() const;
  /// Those whose data is in shared files.
  std::vector<tree::Ino> sharers() const;
  /// The last record without which the data of a file can't be read as they are: one that did more than to
  /// set times, owner, mode or links. 0: the checkpoint has it, or nothing is known of the file.
  std::uint64_t needed_record(tree::Ino ino) const;
  /// Where the data of these is; those that have none (any more) are left out.
  std::vector<DataName> data_names(std::span<const tree::Ino> inos) const;
  /// Calls `visit` for each data file or place of which is known how long it is, with that length.
  Result<void> for_each_length(
      FunctionRef<Result<void>(const DataName& name, std::uint64_t length)> visit) const;
  void for_each_changed(FunctionRef<bool(tree::Ino, const tree::ChangedParts&)> visit) const;
  /// One above the greatest number of a node born here, at least kFirstUpperIno.
  std::uint64_t next_ino() const { return next_ino_; }

  /// Makes a change; `effects` gets what it means for data files, which are marked as to be flushed.
  /// `record`: its number in the log, 0 for what comes from the checkpoint.
  void apply(const tree::Change& change, DataEffects& effects, std::uint64_t record = 0);
  void clear_to_flush(tree::Ino ino);
  /// Marks it again after a flush that failed; false where it was marked already.
  bool mark_to_flush(tree::Ino ino);
  void raise_next_ino(std::uint64_t limit);

  /// Single records, for loading a checkpoint.
  void load_extents(tree::Ino ino, const std::vector<tree::Extent>& extents);
  void drop_node(tree::Ino ino);
  void drop_inline(tree::Ino ino);
  void drop_xattrs(tree::Ino ino);

  /// Every inode, directory included, of which there is something, in no order.
  std::vector<tree::Ino> inodes() const;
  std::vector<tree::Ino> directories() const;

 private:
  struct Extra {
    Digest object;
    std::uint64_t base_size = 0;
    std::uint64_t rdev = 0;
    std::optional<std::string> inline_bytes;
    DeltaExtents extents;
    std::map<std::string, std::optional<std::string>, std::less<>> xattrs;  // nullopt: tombstone
    bool empty() const {
      return object.is_zero() && base_size == 0 && rdev == 0 && !inline_bytes && extents.empty() &&
             xattrs.empty();
    }
  };
  /// A node without what few nodes have.
  struct Item {
    std::int64_t seconds[3] = {};  // mtime, ctime, atime
    std::uint64_t size = 0;
    std::uint64_t parent = 0;
    std::uint64_t needed_record = 0;
    std::unique_ptr<Extra> extra;
    std::uint32_t nanoseconds[3] = {};
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t nlink = 0;
    std::uint16_t mode = 0;
    tree::NodeKind kind = tree::NodeKind::kRegular;
    tree::ContentKind content = tree::ContentKind::kNone;
    bool has_node = false;
    bool data_reaches = false;
    bool to_flush = false;  // it is in the list of files to flush (Unsaved)
  };

  class Applier;
  const Item* item(tree::Ino ino) const;
  Item* item(tree::Ino ino);
  Item& make_item(tree::Ino ino) { return inodes_[to_number(ino)]; }
  const Extra* extra(tree::Ino ino) const;
  Extra* extra(tree::Ino ino);
  Extra& make_extra(tree::Ino ino);
  /// Drops what is empty after something was taken away.
  void tidy(tree::Ino ino);
  static void store_node(Item& item, const tree::Node& node);
  static tree::Node load_node(const Item& item);

  std::unordered_map<std::uint64_t, Item> inodes_;
  std::unordered_map<std::uint64_t, DeltaEntries> directories_;
  std::uint64_t next_ino_ = tree::kFirstUpperIno;
};

}  // namespace layerfs::upper
