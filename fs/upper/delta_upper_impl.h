// SPDX-License-Identifier: Apache-2.0
// DeltaUpper: the UpperLayer over a DeltaCore. Any thread. Read-only where the core has no log.
//
// (1) apply(): the bytes are made without a lock; then, under the write lock, into the log, then into the
//     state. What is in the log is in the state: a server without the memory for that dies, and the next one
//     takes it from the log (noexcept). Half a change in the state would go into a checkpoint.
// (2) The destructor is the clean close. What it can't bring to disk stays in the log.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/tree/upper_layer.h"
#include "fs/upper/delta_core.h"
#include "fs/upper/delta_persister.h"

namespace layerfs::upper {

class DeltaUpper final : public tree::UpperLayer {
 public:
  explicit DeltaUpper(std::unique_ptr<DeltaCore> core);
  ~DeltaUpper() override;
  DeltaUpper(const DeltaUpper&) = delete;
  DeltaUpper& operator=(const DeltaUpper&) = delete;

  std::optional<tree::Node> find_node(tree::Ino ino) const override;
  tree::UpperEntry find_entry(tree::Ino dir, std::string_view name) const override;
  void list_entries(tree::Ino dir, tree::DirCookie after,
                    FunctionRef<bool(const tree::UpperEntryView&)> visit) const override;
  tree::XattrState find_xattr(tree::Ino ino, std::string_view name, std::string& value) const override;
  void list_xattrs(
      tree::Ino ino,
      FunctionRef<bool(std::string_view, tree::XattrState, std::string_view)> visit) const override;
  Result<std::string> get_inline(tree::Ino ino) const override;
  std::vector<tree::Extent> extents(tree::Ino ino) const override;
  std::vector<tree::Extent> extents_within(tree::Ino ino, std::uint64_t begin,
                                           std::uint64_t end) const override;
  std::vector<tree::Ino> orphans() const override;
  void for_each_changed(FunctionRef<bool(tree::Ino, const tree::ChangedParts&)> visit) const override;

  Result<void> apply(const tree::ChangeSet& change) override;
  bool was_applied(std::uint64_t request) const override;
  tree::Ino allocate_ino() override;
  Result<std::shared_ptr<const Fd>> create_data(tree::Ino ino) override;
  Result<std::shared_ptr<const Fd>> open_data(tree::Ino ino) const override;
  Result<tree::DataPlace> create_shared(tree::Ino ino) override;
  Result<tree::DataPlace> open_shared(tree::Ino ino) const override;
  Result<void> sync_node(tree::Ino ino, tree::FsyncKind kind) override;
  Result<void> sync() override;
  bool give_back() override;
  Result<struct statvfs> stat_fs() const override;
  bool read_only() const override { return core_->log == nullptr; }

 private:
  Result<void> append_and_apply_locked(std::string_view body, std::uint32_t body_crc, AppendKind kind,
                                       const tree::ChangeSet& change);
  void apply_appended_locked(const tree::ChangeSet& change) noexcept;
  void reserve_numbers(std::uint64_t number);

  std::unique_ptr<DeltaCore> core_;
  DeltaPersister persister_;
};

}  // namespace layerfs::upper
