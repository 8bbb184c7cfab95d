// SPDX-License-Identifier: Apache-2.0
#include "fs/mount/ready_pipe.h"

#include <array>

#include "fs/base/bytes.h"
#include "fs/base/log.h"
#include "fs/base/sys_file.h"

namespace layerfs::mount {
namespace {

constexpr std::uint8_t kReady = 0x52;
constexpr std::uint8_t kFailed = 0x46;

void append_text(std::string& to, std::string_view text) {
  append_le(to, static_cast<std::uint32_t>(text.size()));
  to += text;
}

std::string_view take_text(ByteReader& reader) { return reader.take(reader.le<std::uint32_t>()); }

}  // namespace

std::string encode_outcome(const Result<void>& outcome) {
  std::string message;
  if (outcome) {
    append_le(message, kReady);
    return message;
  }
  const Error& error = outcome.error();
  append_le(message, kFailed);
  append_le(message, static_cast<std::uint8_t>(error.kind));
  append_le(message, static_cast<std::uint32_t>(error.code));
  append_text(message, error.context);
  append_text(message, error.reason);
  return message;
}

Result<void> decode_outcome(std::string_view message) {
  ByteReader reader(message);
  auto first = reader.le<std::uint8_t>();
  if (reader.done() && first == kReady) return {};
  if (first == kFailed) {
    Error error;
    auto kind = reader.le<std::uint8_t>();
    error.kind = static_cast<ErrorKind>(kind);
    error.code = static_cast<int>(reader.le<std::uint32_t>());
    error.context = take_text(reader);
    error.reason = take_text(reader);
    if (reader.done() && kind <= static_cast<std::uint8_t>(ErrorKind::kUnsupported))
      return std::unexpected(std::move(error));
  }
  Error died;
  died.code = ESRCH;
  died.context = "start the server";
  died.reason = "it ended before the mount answered";
  return std::unexpected(std::move(died));
}

void send_outcome(Fd& pipe, const Result<void>& outcome) {
  if (!pipe) return;
  std::string message = encode_outcome(outcome);
  if (auto sent = write_full(pipe.get(), as_bytes(message)); !sent) log_info("{}", sent.error().message());
  pipe.reset();
}

Result<void> receive_outcome(int pipe) {
  std::string message;
  std::array<std::byte, 4096> buffer{};
  while (true) {
    LAYERFS_ASSIGN(auto count, read_full(pipe, buffer));
    if (count == 0) return decode_outcome(message);
    message += as_text(std::span(buffer).first(count));
  }
}

}  // namespace layerfs::mount
