// SPDX-License-Identifier: Apache-2.0
#include "fs/store/tree_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/base/bytes.h"
#include "fs/base/sys_file.h"
#include "fs/store/format.h"
#include "fs/store/tree_format.h"
#include "fs/store/xxh64.h"

namespace layerfs::store {

using namespace tree_format;
using tree::DirCookie;
using tree::Ino;
using tree::Node;

namespace {

constexpr Dbi kMain{0};
/// gc or a rebuild may change what lies at the path while it is opened, but not again and again.
constexpr int kOpenRetries = 16;

/// Reads the whole file once: LMDB trusts its pages, so they are checked before it maps them. One pass over
/// a file of a few MiB also brings it into the page cache in order, which the first walk needs anyway.
Result<void> verify_checksum(int fd, const Trailer& trailer, const std::string& path) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 18;
  // No larger than the file, and not zeroed: each page of it that is touched is a fault at a container's
  // start.
  std::size_t room = std::min(kMost, trailer.lmdb_size);
  auto buffer = std::make_unique_for_overwrite<std::byte[]>(room);
  Xxh64 hash;
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  for (std::uint64_t offset = 0; offset < trailer.lmdb_size;) {
    std::span part(buffer.get(), std::min<std::uint64_t>(room, trailer.lmdb_size - offset));
    auto got = pread_full(fd, part, offset);
    if (!got) return with_context(got.error(), "read tree", path);
    if (*got != part.size()) return corrupt_error("open tree", path, "the file is cut short");
    hash.update(std::string_view(reinterpret_cast<const char*>(part.data()), part.size()));
    offset += part.size();
  }
  if (hash.value() != trailer.checksum)
    return corrupt_error("open tree", path, "its checksum does not match");
  return {};
}

Result<Trailer> read_trailer(int fd, const std::string& path) {
  LAYERFS_ASSIGN(struct stat st, stat_fd(fd));
  auto size = static_cast<std::uint64_t>(st.st_size);
  if (size <= kTrailerSize) return corrupt_error("open tree", path, "the file is cut short");
  std::string bytes(kTrailerSize, '\0');
  LAYERFS_ASSIGN(std::size_t got,
                 pread_full(fd, std::as_writable_bytes(std::span(bytes)), size - kTrailerSize));
  std::uint32_t version = kVersion;
  auto trailer = decode_trailer(std::string_view(bytes).substr(0, got), version);
  if (version > kVersion)
    return unsupported_error("open tree", path, "written by a newer version of layerfs");
  if (!trailer || trailer->lmdb_size != size - kTrailerSize)
    return corrupt_error("open tree", path, "its end is damaged");
  return *trailer;
}

}  // namespace

Result<std::shared_ptr<const TreeFile>> TreeFile::open(const std::string& path, const Digest& chain) {
  return open_by([&] { return open_file(path, O_RDONLY); }, path, chain);
}

Result<std::shared_ptr<const TreeFile>> TreeFile::open_in(const OwnDirectory& directory,
                                                          const std::string& name, const Digest& chain) {
  return open_by([&] { return directory.open(name, O_RDONLY); }, join_path(directory.shown(), name), chain);
}

Result<std::shared_ptr<const TreeFile>> TreeFile::open_by(FunctionRef<Result<Fd>()> open_fd,
                                                          const std::string& path, const Digest& chain) {
  std::shared_ptr<TreeFile> file(new TreeFile);
  file->path_ = path;
  for (int attempt = 0;; ++attempt) {
    if (attempt == kOpenRetries) return system_error(ESTALE, "open tree", path);
    LAYERFS_ASSIGN(file->fd_, open_fd());
    auto locked = lock_file(file->fd_.get(), LockMode::kShared, LockWait::kYes);
    if (!locked) return with_context(locked.error(), "lock tree", path);
    LAYERFS_ASSIGN(Trailer trailer, read_trailer(file->fd_.get(), path));
    if (trailer.chain != chain) return corrupt_error("open tree", path, "it is the tree of other layers");
    LAYERFS_TRY(verify_checksum(file->fd_.get(), trailer, path));
    EnvOptions options;
    options.map_size = trailer.lmdb_size;
    options.read_only = options.single_file = options.no_lock = true;
    LAYERFS_ASSIGN(file->env_, Env::open(path, options));
    // LMDB opened the path, not our descriptor: gc or a rebuild may have put another file, or none, there.
    LAYERFS_ASSIGN(struct stat ours, stat_fd(file->fd_.get()));
    LAYERFS_ASSIGN(struct stat theirs, stat_fd(file->env_->data_fd()));
    if (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino && ours.st_nlink > 0) break;
    file->env_.reset();
  }
  LAYERFS_TRY(file->read_head());
  return file;
}

Result<void> TreeFile::read_head() {
  LAYERFS_ASSIGN(auto session, this->session());
  LAYERFS_ASSIGN(auto bytes, session->txn.find(kMain, std::string_view(&kHead, 1)));
  auto head = bytes ? decode_head(*bytes) : std::nullopt;
  if (!head) return corrupt("its head is damaged");
  max_ino_ = head->max_ino;
  has_xattrs_ = head->xattrs > 0;
  mapped_ = bytes->data();
  return {};
}

std::unexpected<Error> TreeFile::corrupt(std::string_view reason) const {
  return corrupt_error("read tree", path_, reason);
}

// The file never changes, so a transaction on it may last for ever, and be kept for the next caller.
Result<TreeFile::Pool::Held> TreeFile::session() const {
  pages_.touched(mapped_);
  if (auto kept = pool_.take()) return Pool::Held(pool_, std::move(kept));
  LAYERFS_ASSIGN(ReadTxn txn, ReadTxn::begin(*env_));
  LAYERFS_ASSIGN(Cursor cursor, Cursor::open(txn, kMain));
  return Pool::Held(pool_, std::unique_ptr<Session>(new Session{std::move(txn), std::move(cursor)}));
}

Result<std::optional<Node>> TreeFile::find_node(Ino ino) const {
  if (to_number(ino) >= kInoLimit) return std::nullopt;
  LAYERFS_ASSIGN(auto session, this->session());
  Key key(kNode, ino);
  LAYERFS_ASSIGN(bool found, session->cursor.find(key.view()));
  if (!found) return std::nullopt;
  ByteReader from(session->cursor.value());
  Node node;
  if (!take_node(from, node) || !from.done()) return corrupt("a node is damaged");
  return node;
}

Result<std::optional<tree::Entry>> TreeFile::find_entry(Ino dir, std::string_view name) const {
  if (to_number(dir) >= kInoLimit || name.empty() || name.size() > tree::kMaxName) return std::nullopt;
  LAYERFS_ASSIGN(auto session, this->session());
  Key key(dir, tree::name_cookie(name));
  key.add(name);
  LAYERFS_ASSIGN(bool found, session->cursor.find(key.view()));
  if (!found) return std::nullopt;
  ByteReader from(session->cursor.value());
  tree::Entry entry;
  entry.ino = Ino{take_varint(from)};
  if (!take_node(from, entry.node) || !from.done()) return corrupt("a directory entry is damaged");
  return entry;
}

Result<void> TreeFile::list_entries(Ino dir, DirCookie after, tree::EntryVisitor visit) const {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  if (to_number(dir) >= kInoLimit || to_number(after) == kLast) return {};
  LAYERFS_ASSIGN(auto session, this->session());
  Cursor& cursor = session->cursor;
  Key start(dir, DirCookie{to_number(after) + 1});
  std::string_view directory = start.view().substr(0, kInoKey);
  Node node;
  LAYERFS_ASSIGN(bool more, cursor.find_at_or_after(start.view()));
  while (more && cursor.key().starts_with(directory)) {
    std::string_view key = cursor.key();
    ByteReader from(cursor.value());
    Ino ino{take_varint(from)};
    if (key.size() <= kEntryPrefix || !take_node(from, node) || !from.done())
      return corrupt("a directory entry is damaged");
    DirCookie cookie{load_be<std::uint64_t>(key.data() + kInoKey)};
    if (!visit(tree::EntryView{cookie, key.substr(kEntryPrefix), ino, node})) return {};
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return {};
}

Result<std::optional<std::string>> TreeFile::find_xattr(Ino ino, std::string_view name) const {
  if (!has_xattrs_ || to_number(ino) >= kInoLimit || name.empty() || name.size() > tree::kMaxName)
    return std::nullopt;
  LAYERFS_ASSIGN(auto session, this->session());
  Key key(kXattr, ino);
  key.add(name);
  LAYERFS_ASSIGN(bool found, session->cursor.find(key.view()));
  if (!found) return std::nullopt;
  return std::string(session->cursor.value());
}

Result<void> TreeFile::list_xattrs(Ino ino, tree::XattrVisitor visit) const {
  if (!has_xattrs_ || to_number(ino) >= kInoLimit) return {};
  LAYERFS_ASSIGN(auto session, this->session());
  Cursor& cursor = session->cursor;
  Key prefix(kXattr, ino);
  LAYERFS_ASSIGN(bool more, cursor.find_at_or_after(prefix.view()));
  while (more && cursor.key().starts_with(prefix.view())) {
    if (!visit(cursor.key().substr(kInoKey), cursor.value())) return {};
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return {};
}

Result<std::string> TreeFile::get_inline(Ino ino) const {
  if (to_number(ino) >= kInoLimit) return errno_error(ENOENT);
  LAYERFS_ASSIGN(auto session, this->session());
  Key key(kInline, ino);
  LAYERFS_ASSIGN(bool found, session->cursor.find(key.view()));
  if (!found) return errno_error(ENOENT);
  return std::string(session->cursor.value());
}

Result<void> TreeFile::for_each_node(FunctionRef<Result<void>(Ino, const Node&)> visit) const {
  LAYERFS_ASSIGN(auto session, this->session());
  Cursor& cursor = session->cursor;
  LAYERFS_ASSIGN(bool more, cursor.find_at_or_after(Key(kNode, Ino{0}).view()));
  while (more && cursor.key().starts_with(kNode)) {
    ByteReader from(cursor.value());
    Node node;
    if (cursor.key().size() != kInoKey || !take_node(from, node) || !from.done())
      return corrupt("a node is damaged");
    LAYERFS_TRY(visit(ino_of_key(cursor.key()), node));
    LAYERFS_ASSIGN(more, cursor.next());
  }
  return {};
}

}  // namespace layerfs::store
