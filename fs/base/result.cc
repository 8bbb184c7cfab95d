// SPDX-License-Identifier: Apache-2.0
#include "fs/base/result.h"

#include <cstring>

namespace layerfs {

namespace {

std::string describe(std::string_view operation, std::string_view subject) {
  std::string text(operation);
  if (!subject.empty()) {
    if (!text.empty()) text += ' ';
    text += '\'';
    text += subject;
    text += '\'';
  }
  return text;
}

std::unexpected<Error> make(ErrorKind kind, int code, std::string_view operation, std::string_view subject,
                            std::string_view reason) {
  return std::unexpected(Error{kind, code, describe(operation, subject), std::string(reason)});
}

}  // namespace

std::string errno_text(int code) {
  char buffer[128];
  std::string text = strerror_r(code, buffer, sizeof buffer);
  if (text.size() > 1 && text[1] >= 'a' && text[1] <= 'z' && text[0] >= 'A' && text[0] <= 'Z')
    text[0] += 'a' - 'A';
  return text;
}

std::string Error::message() const {
  std::string why = reason.empty() ? errno_text(code) : reason;
  return context.empty() ? why : context + ": " + why;
}

std::unexpected<Error> errno_error(int code) {
  return std::unexpected(Error{ErrorKind::kSystem, code, {}, {}});
}

std::unexpected<Error> system_error(int code, std::string_view operation, std::string_view subject) {
  return make(ErrorKind::kSystem, code, operation, subject, {});
}

std::unexpected<Error> corrupt_error(std::string_view operation, std::string_view subject,
                                     std::string_view reason) {
  return make(ErrorKind::kCorrupt, EIO, operation, subject, reason);
}

std::unexpected<Error> invalid_error(std::string_view operation, std::string_view subject,
                                     std::string_view reason) {
  return make(ErrorKind::kInvalid, EINVAL, operation, subject, reason);
}

std::unexpected<Error> unsupported_error(std::string_view operation, std::string_view subject,
                                         std::string_view reason) {
  return make(ErrorKind::kUnsupported, EOPNOTSUPP, operation, subject, reason);
}

std::unexpected<Error> with_context(Error error, std::string_view operation, std::string_view subject) {
  std::string outer = describe(operation, subject);
  error.context = error.context.empty() ? outer : outer + ": " + error.context;
  return std::unexpected(std::move(error));
}

}  // namespace layerfs
