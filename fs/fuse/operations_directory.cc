// SPDX-License-Identifier: Apache-2.0
#include <vector>

#include "fs/fuse/adapter.h"
#include "fs/fuse/operations.h"

namespace layerfs::fuse {
namespace {

using tree::EntryView;
using unionfs::DirCookie;
using unionfs::Ino;

bool is_dot_or_dotdot(std::string_view name) { return name == "." || name == ".."; }

/// ENOSYS, once: the kernel opens directories itself from then on and caches their listings.
void opendir(fuse_req_t req, fuse_ino_t, fuse_file_info*) { fuse_reply_err(req, ENOSYS); }

/// Adds entries to `buffer` while they fit, and says how much of it they fill.
class Listing {
 public:
  Listing(fuse_req_t req, std::span<std::byte> buffer) : req_(req), buffer_(buffer) {}

  bool add(const EntryView& entry) {
    struct stat attributes{};
    attributes.st_ino = to_number(entry.ino);
    attributes.st_mode = to_file_type(entry.node.kind);
    name_ = entry.name;
    return take(fuse_add_direntry(req_, room(), left(), name_.c_str(), &attributes, to_number(entry.cookie)));
  }

  /// With all attributes: the kernel then needs no LOOKUP. It takes no node for "." and "..", which it has.
  bool add_plus(const EntryView& entry, Adapter& adapter) {
    const bool is_dot = is_dot_or_dotdot(entry.name);
    const auto node = is_dot ? entry.node : *to_be_told(adapter, entry.ino, entry.node);
    fuse_entry_param param = to_entry_param(adapter, {.ino = entry.ino, .node = node});
    if (is_dot) param.ino = 0;
    name_ = entry.name;
    return take(fuse_add_direntry_plus(req_, room(), left(), name_.c_str(), &param, to_number(entry.cookie)));
  }

  std::size_t size() const { return used_; }

 private:
  char* room() { return reinterpret_cast<char*>(buffer_.data()) + used_; }
  std::size_t left() const { return buffer_.size() - used_; }
  bool take(std::size_t needed) {
    if (needed > left()) return false;
    used_ += needed;
    return true;
  }

  fuse_req_t req_;
  std::span<std::byte> buffer_;
  std::size_t used_ = 0;
  std::string name_;  // libfuse wants its NUL
};

void readdir(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info*) {
  answer(req, "readdir", [&](Adapter& adapter) {
    auto buffer = current_worker().reply_buffer(size);
    Listing listing(req, buffer);
    auto done = adapter.fs.readdir(Ino{ino}, DirCookie{static_cast<std::uint64_t>(offset)},
                                   [&](const EntryView& entry) { return listing.add(entry); });
    if (!done) return reply_failure(req, "readdir", done.error());
    fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), listing.size());
  });
}

void readdirplus(fuse_req_t req, fuse_ino_t ino, std::size_t size, off_t offset, fuse_file_info*) {
  answer(req, "readdirplus", [&](Adapter& adapter) {
    auto buffer = current_worker().reply_buffer(size);
    Listing listing(req, buffer);
    std::vector<Ino> named;
    auto done = adapter.fs.readdir(Ino{ino}, DirCookie{static_cast<std::uint64_t>(offset)},
                                   [&](const EntryView& entry) {
                                     if (!listing.add_plus(entry, adapter)) return false;
                                     if (!is_dot_or_dotdot(entry.name)) named.push_back(entry.ino);
                                     return true;
                                   });
    if (!done) return reply_failure(req, "readdirplus", done.error());
    // The kernel holds the directory's lock (shared) until it has this reply, so none of the named entries
    // can be removed before it is counted.
    for (Ino child : named) adapter.fs.remember(child);
    if (fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), listing.size()) != 0)
      for (Ino child : named) adapter.fs.forget(child, 1);
  });
}

void fsyncdir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  answer(req, "fsyncdir",
         [&](Adapter& adapter) { reply_done(req, "fsyncdir", adapter.fs.fsyncdir(Ino{ino})); });
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& operations) {
  operations.opendir = opendir;
  operations.readdir = readdir;
  operations.readdirplus = readdirplus;
  operations.fsyncdir = fsyncdir;
}

}  // namespace layerfs::fuse
