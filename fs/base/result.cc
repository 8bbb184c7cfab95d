// SPDX-License-Identifier: Apache-2.0
#include "fs/base/result.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "fs/base/utf8.h"

namespace layerfs {

namespace {

/// Marks that change the direction or the place of what follows them: U+200E, U+200F, U+202A to U+202E,
/// U+2066 to U+2069; and the separators of lines U+2028, U+2029.
bool turns_the_text(std::string_view character) {
  if (character.size() != 3 || character[0] != '\xe2') return false;
  auto second = static_cast<unsigned char>(character[1]);
  auto third = static_cast<unsigned char>(character[2]);
  if (second == 0x80) return third == 0x8e || third == 0x8f || (third >= 0xa8 && third <= 0xae);
  return second == 0x81 && third >= 0xa6 && third <= 0xa9;
}

/// True for a whole character of UTF-8 that may be shown as it is.
bool is_shown(std::string_view character) {
  auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first >= 0x20 && first < 0x7f;
  if (first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0)
    return false;  // C1 control characters
  return !turns_the_text(character);
}

void append_escaped(std::string& to, std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (unsigned char byte : bytes) {
    to += "\\x";
    to += kDigits[byte >> 4];
    to += kDigits[byte & 15];
  }
}

std::string describe(std::string_view operation, std::string_view subject) {
  std::string text(operation);
  if (!subject.empty()) {
    if (!text.empty()) text += ' ';
    text += '\'';
    text += printable(subject, kMaxSubject);
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
  return printable(context.empty() ? why : context + ": " + why, kMaxMessage);
}

std::string printable(std::string_view text, std::size_t most) {
  constexpr std::string_view kCut = "...";
  // A little of both ends of what is very long is enough: no byte of it becomes less than one.
  std::string shown;
  std::string tail;
  std::size_t head_room = most / 2;
  auto append = [](std::string& to, std::string_view& rest) {
    std::size_t size = utf8_length(rest);
    std::string_view character = rest.substr(0, std::max<std::size_t>(size, 1));
    rest.remove_prefix(character.size());
    if (size != 0 && is_shown(character)) {
      to += character;
    } else {
      append_escaped(to, character);
    }
  };
  std::string_view rest = text;
  while (!rest.empty() && shown.size() <= most) append(shown, rest);
  if (rest.empty() && shown.size() <= most) return shown;
  // Too long: the head, cut at a character, and as much of the end.
  shown.clear();
  rest = text;
  for (std::string next; !rest.empty(); next.clear()) {
    append(next, rest);
    if (shown.size() + next.size() > head_room) break;
    shown += next;
  }
  std::size_t tail_room = most - std::min(most, head_room + kCut.size());
  rest = text.substr(text.size() - std::min(text.size(), tail_room));
  while (!rest.empty() && (static_cast<unsigned char>(rest[0]) & 0xc0) == 0x80) rest.remove_prefix(1);
  std::vector<std::string> ends;
  for (; !rest.empty();) append(ends.emplace_back(), rest);
  std::size_t from = ends.size();
  for (std::size_t size = 0; from > 0 && size + ends[from - 1].size() <= tail_room; --from)
    size += ends[from - 1].size();
  for (; from < ends.size(); ++from) tail += ends[from];
  return shown.append(kCut).append(tail);
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
