// SPDX-License-Identifier: Apache-2.0
// Result<T>: a value, or the Error that says what failed, on what, and why. Used for everything the
// world can cause; our own bugs are LAYERFS_CHECK's (check.h).
//
// (1) A hot path's error carries no text, so that ENOENT allocates nothing.
// (2) Context is added going up (with_context); the message is logged once, at the top.
// (3) A message may quote what an image, an archive or a file name holds. It is one line of printable text
//     all the same, and no longer than kMaxMessage: nobody who makes an error needs to see to it.
#pragma once

#include <cerrno>
#include <cstddef>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace layerfs {

enum class ErrorKind : unsigned char {
  kSystem,       ///< the kernel said so: `code` is its errno
  kCorrupt,      ///< stored bytes are not what was written
  kInvalid,      ///< the input is not what its format or the usage allows
  kUnsupported,  ///< well-formed, but this build or this host cannot do it
};

struct Error {
  ErrorKind kind = ErrorKind::kSystem;
  int code = EIO;       ///< errno; for the other kinds the errno that a FUSE request answers
  std::string context;  ///< "operation 'subject'", outermost first; empty on hot paths
  std::string reason;   ///< replaces strerror(code) where set

  /// The whole message: lower case, no full stop, e.g. `open layer 'sha256:ab': no such file or directory`.
  /// Printable (3).
  std::string message() const;
};

/// The longest message of an Error, and line of the log, in bytes.
inline constexpr std::size_t kMaxMessage = 4096;
/// The longest subject that a message quotes, in bytes; what is longer is cut in the middle.
inline constexpr std::size_t kMaxSubject = 512;

/// `text` for a terminal or a log: control characters, what is no UTF-8 and marks that turn the direction of
/// writing as \xNN; cut in the middle ("...") where the result would have more than `most` bytes.
std::string printable(std::string_view text, std::size_t most);

template <class T>
using Result = std::expected<T, Error>;

/// An error without text, for hot paths.
std::unexpected<Error> errno_error(int code);
/// `operation 'subject': strerror(code)`. Read errno on the next line after the call that set it.
std::unexpected<Error> system_error(int code, std::string_view operation, std::string_view subject = {});
/// Stored bytes are wrong (EIO).
std::unexpected<Error> corrupt_error(std::string_view operation, std::string_view subject,
                                     std::string_view reason);
/// Input is wrong (EINVAL).
std::unexpected<Error> invalid_error(std::string_view operation, std::string_view subject,
                                     std::string_view reason);
/// Cannot be done here (EOPNOTSUPP).
std::unexpected<Error> unsupported_error(std::string_view operation, std::string_view subject,
                                         std::string_view reason);
/// The same error with `operation 'subject': ` put before it.
std::unexpected<Error> with_context(Error error, std::string_view operation, std::string_view subject = {});
/// `errno` as a lower-case sentence without full stop.
std::string errno_text(int code);

}  // namespace layerfs

#define LAYERFS_CONCAT_(a, b) a##b
#define LAYERFS_CONCAT(a, b) LAYERFS_CONCAT_(a, b)
/// Returns the error of a Result<void> (or of a Result whose value is not wanted).
#define LAYERFS_TRY(expr)                                         \
  do {                                                            \
    if (auto layerfs_result_ = (expr); !layerfs_result_)          \
      return std::unexpected(std::move(layerfs_result_).error()); \
  } while (false)
/// `LAYERFS_ASSIGN(auto fd, open_at(...));`: the value, or returns the error.
#define LAYERFS_ASSIGN(lhs, expr) LAYERFS_ASSIGN_(LAYERFS_CONCAT(layerfs_result_, __LINE__), lhs, expr)
#define LAYERFS_ASSIGN_(result, lhs, expr)                        \
  auto result = (expr);                                           \
  if (!result) return std::unexpected(std::move(result).error()); \
  lhs = std::move(*result)
