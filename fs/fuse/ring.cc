// SPDX-License-Identifier: Apache-2.0
#include "fs/fuse/ring.h"

#include <linux/fuse.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <utility>

#include "fs/base/sys_file.h"

#ifdef LAYERFS_HAS_LIBURING
#include <liburing.h>
#include <sys/mman.h>

#include <cstring>

#include "fs/base/check.h"
#include "fs/base/log.h"
#endif

namespace layerfs::fuse {
namespace {

/// Rings with an entry in one queue.
constexpr unsigned kRingsOfQueue = 3;
/// Queues with threads of their own; on larger machines threads share them.
constexpr unsigned kOwnQueues = 8;

}  // namespace

#ifdef LAYERFS_HAS_LIBURING

namespace {

constexpr std::size_t kPageSize = 4096;

// linux/fuse.h of Linux 6.14, newer than the oldest headers.
struct EntryState {  // fuse_uring_ent_in_out
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint32_t payload_size;
  std::uint32_t padding;
  std::uint64_t reserved;
};
struct EntryHeader {  // fuse_uring_req_header
  std::array<std::byte, 128> in_out;
  std::array<std::byte, 128> operation;
  EntryState state;
};
struct Command {  // fuse_uring_cmd_req
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint16_t queue;
  std::array<std::uint8_t, 6> padding;
};
constexpr unsigned kRegister = 1;        // FUSE_IO_URING_CMD_REGISTER
constexpr unsigned kCommitAndFetch = 2;  // FUSE_IO_URING_CMD_COMMIT_AND_FETCH

/// Anonymous pages that are there once they are used.
class Pages {
 public:
  static Result<Pages> make(std::size_t size) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return system_error(errno, "allocate a FUSE ring's buffers");
    return Pages({static_cast<std::byte*>(memory), size});
  }
  Pages(Pages&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Pages& operator=(Pages&&) = delete;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
  }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  explicit Pages(std::span<std::byte> bytes) : bytes_(bytes) {}
  std::span<std::byte> bytes_;
};

class LinuxRing final : public Ring {
 public:
  /// A page for the kernel's header, one into which the message's fixed part is put, right before its data.
  static constexpr std::size_t kHeadroom = 2 * kPageSize;

  LinuxRing(int device, std::size_t payload) : device_(device), payload_(payload) {}
  LinuxRing(const LinuxRing&) = delete;
  LinuxRing& operator=(const LinuxRing&) = delete;
  ~LinuxRing() override {
    if (open_) io_uring_queue_exit(&ring_);
  }

  Result<void> open(const std::vector<unsigned>& queues) {
    io_uring_params parameters{};
    // A COMMIT_AND_FETCH takes 80 bytes of the entry's second half.
    parameters.flags = IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP;
    const int result =
        io_uring_queue_init_params(static_cast<unsigned>(queues.size()) + 1, &ring_, &parameters);
    if (result < 0) return system_error(-result, "io_uring_setup");
    open_ = true;
    entries_.reserve(queues.size());
    for (const unsigned queue : queues) {
      LAYERFS_ASSIGN(auto pages, Pages::make(kHeadroom + payload_));
      entries_.push_back({.queue = queue, .pages = std::move(pages), .commit_id = 0});
    }
    living_ = entries_.size();
    return {};
  }

  std::optional<unsigned> processor() const override {
    if (entries_.size() != 1) return std::nullopt;
    return entries_.front().queue;
  }

  void offer() override {
    for (Entry& entry : entries_) {
      entry.parts = {iovec{entry.pages.bytes().data(), sizeof(EntryHeader)},
                     iovec{data_of(entry).data(), payload_}};
      push(entry, kRegister);
    }
  }

  Result<std::span<std::byte>> next() override {
    LAYERFS_CHECK(at_hand_ == nullptr);
    for (;;) {
      io_uring_cqe* done = nullptr;
      if (unsent_ || io_uring_peek_cqe(&ring_, &done) != 0) {
        const int result = io_uring_submit_and_wait(&ring_, 1);
        if (result == -EINTR || result == -EAGAIN) return std::span<std::byte>();
        if (result < 0) return system_error(-result, "io_uring_enter");
        unsent_ = false;
        if (io_uring_peek_cqe(&ring_, &done) != 0) continue;
      }
      auto& entry = *static_cast<Entry*>(io_uring_cqe_get_data(done));
      const int code = -done->res;
      io_uring_cqe_seen(&ring_, done);
      if (code == 0) {
        at_hand_ = &entry;
        return message_of(entry);
      }
      // This entry is not in the kernel's hands any more.
      if (--living_ == 0) return system_error(code, "read", "the FUSE ring");
    }
  }

  std::span<std::byte> reply_room() override { return data_of(*at_hand_); }

  bool reply(std::span<const iovec> parts) override {
    fuse_out_header header{};
    if (at_hand_ == nullptr || answered_ || parts.empty() || parts.front().iov_len != sizeof header)
      return false;
    std::memcpy(&header, parts.front().iov_base, sizeof header);
    if (header.unique != unique_) return false;
    const std::span<std::byte> room = data_of(*at_hand_);
    std::size_t size = 0;
    for (const iovec& part : parts.subspan(1)) {
      if (part.iov_len > room.size() - size) {
        answer(-EIO, 0);
        return true;
      }
      if (part.iov_len != 0 && part.iov_base != room.data() + size)
        std::memmove(room.data() + size, part.iov_base, part.iov_len);
      size += part.iov_len;
    }
    answer(header.error, size);
    return true;
  }

  void finish() override {
    if (!answered_) answer(-EIO, 0);
    push(*at_hand_, kCommitAndFetch);
    at_hand_ = nullptr;
    answered_ = false;
  }

 private:
  struct Entry {
    unsigned queue = 0;
    Pages pages;
    std::array<iovec, 2> parts{};
    std::uint64_t commit_id = 0;
  };

  std::span<std::byte> data_of(const Entry& entry) const { return entry.pages.bytes().subspan(kHeadroom); }
  EntryHeader& header_of(const Entry& entry) const {
    return *reinterpret_cast<EntryHeader*>(entry.pages.bytes().data());
  }

  /// Puts the fixed part of the request before its data. Empty where the kernel's lengths contradict each
  /// other: finish() then fails it.
  std::span<std::byte> message_of(Entry& entry) {
    const EntryHeader& header = header_of(entry);
    fuse_in_header in{};
    std::memcpy(&in, header.in_out.data(), sizeof in);
    entry.commit_id = header.state.commit_id;
    unique_ = in.unique;
    const std::size_t data = header.state.payload_size;
    const std::size_t fixed = in.len - data;
    if (data > payload_ || in.len < sizeof in + data || fixed - sizeof in > header.operation.size()) {
      log_error("FUSE ring: a request of {} bytes, {} of them data", in.len, data);
      finish();
      return {};
    }
    std::byte* begin = data_of(entry).data() - fixed;
    std::memcpy(begin, &in, sizeof in);
    std::memcpy(begin + sizeof in, header.operation.data(), fixed - sizeof in);
    return {begin, fixed + data};
  }

  void answer(int error, std::size_t size) {
    fuse_out_header out{};
    out.len = static_cast<std::uint32_t>(sizeof out + size);
    out.error = error;
    out.unique = unique_;
    EntryHeader& header = header_of(*at_hand_);
    std::memcpy(header.in_out.data(), &out, sizeof out);
    header.state.payload_size = static_cast<std::uint32_t>(size);
    answered_ = true;
  }

  void push(Entry& entry, unsigned operation) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    LAYERFS_CHECK(sqe != nullptr);  // an entry is in the queue once, and the queue has room for all
    std::memset(static_cast<void*>(sqe), 0, 2 * sizeof *sqe);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = device_;
    sqe->cmd_op = operation;
    if (operation == kRegister) {
      sqe->addr = reinterpret_cast<std::uintptr_t>(entry.parts.data());
      sqe->len = static_cast<std::uint32_t>(entry.parts.size());
    }
    io_uring_sqe_set_data(sqe, &entry);
    const Command command{.flags = 0,
                          .commit_id = entry.commit_id,
                          .queue = static_cast<std::uint16_t>(entry.queue),
                          .padding = {}};
    std::memcpy(sqe->cmd, &command, sizeof command);
    unsent_ = true;
  }

  const int device_;
  const std::size_t payload_;
  io_uring ring_{};
  bool open_ = false;
  bool unsent_ = false;  // the submission queue has something
  std::vector<Entry> entries_;
  std::size_t living_ = 0;

  // Of the request at hand.
  Entry* at_hand_ = nullptr;
  std::uint64_t unique_ = 0;
  bool answered_ = false;
};

}  // namespace

Result<std::unique_ptr<Ring>> Ring::make(int device, const std::vector<unsigned>& queues,
                                         std::size_t payload) {
  auto ring = std::make_unique<LinuxRing>(device, payload);
  LAYERFS_TRY(ring->open(queues));
  return std::unique_ptr<Ring>(std::move(ring));
}

#else

Result<std::unique_ptr<Ring>> Ring::make(int, const std::vector<unsigned>&, std::size_t) {
  return unsupported_error("make a FUSE ring", {}, "this build has no liburing");
}

#endif

Result<unsigned> count_processors(std::string_view list) {
  const std::string_view whole = list.substr(0, list.find('\n'));
  unsigned total = 0;
  for (std::string_view rest = whole; !rest.empty();) {
    unsigned first = 0;
    auto [at, error] = std::from_chars(rest.data(), rest.data() + rest.size(), first);
    if (error != std::errc{}) return invalid_error("read a list of processors", whole, "not numbers");
    rest.remove_prefix(static_cast<std::size_t>(at - rest.data()));
    unsigned last = first;
    if (rest.starts_with('-')) {
      rest.remove_prefix(1);
      auto [end, bad] = std::from_chars(rest.data(), rest.data() + rest.size(), last);
      if (bad != std::errc{} || last < first)
        return invalid_error("read a list of processors", whole, "not a range");
      rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    }
    total += last - first + 1;
    if (rest.starts_with(','))
      rest.remove_prefix(1);
    else if (!rest.empty())
      return invalid_error("read a list of processors", whole, "not a list");
  }
  if (total == 0) return invalid_error("read a list of processors", whole, "it is empty");
  return total;
}

Result<unsigned> count_ring_queues() {
  LAYERFS_ASSIGN(auto list, read_file("/sys/devices/system/cpu/possible"));
  return count_processors(list);
}

std::vector<std::vector<unsigned>> share_queues(unsigned queues) {
  const unsigned threads = std::min(queues, kOwnQueues);
  std::vector<std::vector<unsigned>> shares(std::size_t{threads} * kRingsOfQueue);
  for (unsigned queue = 0; queue < queues; ++queue)
    for (unsigned i = 0; i < kRingsOfQueue; ++i) shares[queue % threads + i * threads].push_back(queue);
  return shares;
}

Result<std::vector<std::unique_ptr<Ring>>> make_rings(int device, std::size_t payload) {
  LAYERFS_ASSIGN(const unsigned queues, count_ring_queues());
  std::vector<std::unique_ptr<Ring>> rings;
  for (const auto& share : share_queues(queues)) {
    LAYERFS_ASSIGN(auto ring, Ring::make(device, share, payload));
    rings.push_back(std::move(ring));
  }
  return rings;
}

}  // namespace layerfs::fuse
