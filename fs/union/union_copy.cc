// SPDX-License-Identifier: Apache-2.0
// copy_file_range(2) between any two files: by naming the same object where the whole of one is copied, by
// the file system below where it can, else through a buffer.
#include <unistd.h>

#include <algorithm>

#include "fs/base/sys_file.h"
#include "fs/union/union.h"

namespace layerfs::unionfs {

using tree::ContentKind;

namespace {

// A call copies no more than this at once: both files are locked meanwhile, and the caller comes back for the
// rest.
constexpr std::uint64_t kMostAtOnce = std::uint64_t{32} << 20;
// The answer that a caller gets has 32 bits (fuse_write_out), in whole pages.
constexpr std::uint64_t kMostAnswered = UINT32_MAX & ~std::uint64_t{4095};

// Copies what it can of the piece from `done` on, and says in `done` how far it came, after an error too:
// less than the piece without an error only at the end of its file.
Result<void> copy_through_buffer(const ReadPiece& piece, int out, std::uint64_t out_offset,
                                 std::uint64_t& done) {
  std::vector<std::byte> buffer(std::min<std::uint64_t>(piece.size, std::uint64_t{256} << 10));
  while (done < piece.size) {
    auto part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), piece.size - done));
    LAYERFS_ASSIGN(std::size_t count, pread_full(piece.file->get(), part, piece.offset + done));
    if (count == 0) break;
    LAYERFS_ASSIGN(std::size_t written, pwrite_most(out, part.first(count), out_offset + done));
    done += written;
  }
  return {};
}

// The same.
Result<void> copy_by_kernel(const ReadPiece& piece, int out, std::uint64_t out_offset, std::uint64_t& done) {
  while (done < piece.size) {
    auto from = static_cast<off_t>(piece.offset + done);
    auto to = static_cast<off_t>(out_offset + done);
    ssize_t count = ::copy_file_range(piece.file->get(), &from, out, &to, piece.size - done, 0);
    int code = errno;
    if (count == 0) break;
    if (count > 0) {
      done += static_cast<std::uint64_t>(count);
    } else if (code != EINTR) {
      return system_error(code, "copy file range");
    }
  }
  return {};
}

// True for what only says that copy_file_range(2) can't do it between these two files.
bool is_refusal(int code) {
  return code == EXDEV || code == EINVAL || code == EOPNOTSUPP || code == ENOSYS || code == EBADF ||
         code == EPERM || code == ETXTBSY;
}

// `done`: how many bytes of the piece were copied, after an error too.
Result<void> copy_piece(const ReadPiece& piece, int out, std::uint64_t out_offset, std::uint64_t& done) {
  if (!piece.bytes.empty()) {
    while (done < piece.bytes.size()) {
      auto rest = std::as_bytes(std::span(piece.bytes)).subspan(done);
      LAYERFS_ASSIGN(std::size_t written, pwrite_most(out, rest, out_offset + done));
      done += written;
    }
    return {};
  }
  if (piece.file) {
    auto copied = copy_by_kernel(piece, out, out_offset, done);
    if (!copied && is_refusal(copied.error().code))
      copied = copy_through_buffer(piece, out, out_offset, done);
    if (!copied) return copied;
    if (done < piece.size && !piece.may_end_early)
      return corrupt_error("copy file range", "object", "its file is too short");
  }
  if (done < piece.size) LAYERFS_TRY(zero_range(out, out_offset + done, piece.size - done));
  done = piece.size;
  return {};
}

}  // namespace

// A whole object into a file that has nothing else: the copy names the object too, no byte moves.
Result<bool> Union::clone_object(const Node& from, Ino out, Node to, const Caller& caller) {
  bool takes_all =
      from.size >= to.size && (to.content == ContentKind::kNone || to.content == ContentKind::kObject);
  if (from.content != ContentKind::kObject || !takes_all) return false;
  tree::ChangeSet set = change_of(caller);
  to.content = ContentKind::kObject;
  to.object = from.object;
  to.size = from.size;
  LAYERFS_TRY(touch_content(set, out, to, caller.kills_set_id ? &caller : nullptr));
  LAYERFS_TRY(put_node(set, out, to));
  LAYERFS_TRY(apply(set));
  return true;
}

Result<std::size_t> Union::copy_pieces(std::span<const ReadPiece> pieces, Ino out, Node to,
                                       std::uint64_t offset, const Caller& caller) {
  std::uint64_t length = 0;
  for (const ReadPiece& piece : pieces) length += piece.size;
  LAYERFS_ASSIGN(DataPlace data, content_.make_data(out, to, to.size, std::max(to.size, offset + length)));
  bool ranged = !to.object.is_zero();
  if (offset > to.size && !ranged) {
    LAYERFS_TRY(content_.cut_tail(data, to.size));
    note_holes(to, offset);
  }
  std::uint64_t done = 0;
  for (const ReadPiece& piece : pieces) {
    std::uint64_t count = 0;
    auto copied = copy_piece(piece, data.fd(), data.offset + offset + done, count);
    done += count;
    // A hole, or a file that may have some, which the file system below may share.
    if (count > 0 && piece.bytes.empty()) {
      note_holes(to, offset + done);
      if (auto extended = Content::extend(data, offset + done); !extended) {
        // What lies within the file has changed and is answered for; zeros beyond its end are not there.
        auto attributes = stat_fd(data.fd());
        const std::uint64_t end = attributes ? static_cast<std::uint64_t>(attributes->st_size) : 0;
        done = std::clamp(end - std::min(end, offset), done - count, done);
        copied = std::move(extended);
      }
    }
    if (!copied && done == 0) return std::unexpected(copied.error());
    // What was copied before an error is answered for: the kernel drops its pages of what it is told of only.
    if (!copied) break;
  }
  tree::ChangeSet set = change_of(caller);
  to.size = std::max(to.size, offset + done);
  if (ranged) set.changes.emplace_back(tree::AddExtent{out, offset, done});
  LAYERFS_TRY(touch_content(set, out, to, caller.kills_set_id ? &caller : nullptr));
  LAYERFS_TRY(put_node(set, out, to));
  LAYERFS_TRY(apply(set));
  return done;
}

Result<std::size_t> Union::copy_once(Ino in, std::uint64_t in_offset, Ino out, std::uint64_t out_offset,
                                     std::uint64_t length, const Caller& caller) {
  LAYERFS_ASSIGN(const auto pass, gate_.pass(caller.when_frozen));
  LAYERFS_TRY(check_writable());
  ExclusiveLocks locks(locks_);
  std::array<Ino, 2> both{in, out};
  locks.lock(both);
  LAYERFS_ASSIGN(Node from, get_regular(in));
  LAYERFS_ASSIGN(Node to, get_regular(out));
  if (in_offset >= from.size || length == 0) return 0;
  length = std::min(length, from.size - in_offset);
  if (length > kMaxFileSize || out_offset > kMaxFileSize - length) return errno_error(EFBIG);
  if (in == out && in_offset < out_offset + length && out_offset < in_offset + length)
    return errno_error(EINVAL);

  length = std::min(length, kMostAnswered);
  if (in != out && in_offset == 0 && out_offset == 0 && length == from.size) {
    LAYERFS_ASSIGN(bool cloned, clone_object(from, out, to, caller));
    if (cloned) return length;
  }
  length = std::min(length, kMostAtOnce);
  LAYERFS_ASSIGN(auto pieces, content_.pieces(in, from, in_offset, length));
  return copy_pieces(pieces, out, to, out_offset, caller);
}

}  // namespace layerfs::unionfs
