// SPDX-License-Identifier: Apache-2.0
#include "fs/registry/challenge.h"

#include "fs/registry/text.h"

namespace layerfs::registry {

namespace {

bool is_blank(char c) { return c == ' ' || c == '\t'; }
/// RFC 9110, section 5.6.2; '/' and '=' besides, which token68 and careless servers' bare values have.
bool is_token(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}
bool is_bare(char c) { return is_token(c) || c == '/' || c == ':' || c == '=' || c == '@' || c == '?'; }

class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}

  void skip_blanks() {
    while (!rest_.empty() && is_blank(rest_.front())) rest_.remove_prefix(1);
  }
  /// Blanks and commas: lists may have empty elements.
  void skip_separators() {
    while (!rest_.empty() && (is_blank(rest_.front()) || rest_.front() == ',')) rest_.remove_prefix(1);
  }
  bool skip(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  std::string_view token() { return take_while(is_token); }
  std::string value() {
    if (!skip('"')) return std::string(take_while(is_bare));
    std::string text;
    while (!rest_.empty() && rest_.front() != '"') {
      if (rest_.front() == '\\' && rest_.size() > 1) rest_.remove_prefix(1);
      text += rest_.front();
      rest_.remove_prefix(1);
    }
    skip('"');
    return text;
  }
  bool at_end() const { return rest_.empty(); }
  std::string_view rest() const { return rest_; }
  void restore(std::string_view rest) { rest_ = rest; }
  /// What some schemes have in place of parameters (token68): passed over.
  void skip_token68() {
    take_while([](char c) { return is_token(c) || c == '/' || c == '='; });
  }

 private:
  template <class Predicate>
  std::string_view take_while(Predicate predicate) {
    std::size_t size = 0;
    while (size < rest_.size() && predicate(rest_[size])) ++size;
    std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::string_view rest_;
};

/// `name = value` where that is what comes; else nothing is taken.
bool read_parameter(Reader& reader, Challenge& challenge) {
  std::string_view before = reader.rest();
  std::string_view name = reader.token();
  reader.skip_blanks();
  // "name==" is a token68's padding.
  if (name.empty() || !reader.skip('=') || reader.rest().starts_with('=')) {
    reader.restore(before);
    return false;
  }
  reader.skip_blanks();
  std::string value = reader.value();
  if (challenge.find(name).data() == nullptr && challenge.parameters.size() < kMaxChallenges)
    challenge.parameters.emplace_back(to_lower(name), std::move(value));
  return true;
}

}  // namespace

std::string_view Challenge::find(std::string_view name) const {
  std::string wanted = to_lower(name);
  for (const auto& [key, value] : parameters)
    if (key == wanted) return value;
  return {};
}

std::vector<Challenge> parse_challenges(std::string_view value) {
  std::vector<Challenge> challenges;
  Reader reader(value);
  for (reader.skip_separators(); !reader.at_end() && challenges.size() < kMaxChallenges;
       reader.skip_separators()) {
    Challenge challenge{to_lower(reader.token()), {}};
    if (challenge.scheme.empty()) break;
    reader.skip_blanks();
    std::string_view before = reader.rest();
    if (!read_parameter(reader, challenge)) {
      // A scheme alone, or with a token68; a scheme that follows is after a comma.
      reader.skip_token68();
      reader.skip_blanks();
      if (!reader.at_end() && !reader.rest().starts_with(',')) reader.restore(before);
    } else {
      for (;;) {
        std::string_view mark = reader.rest();
        reader.skip_separators();
        // "name =" is a parameter of this challenge, "scheme name" the next challenge's beginning.
        if (!read_parameter(reader, challenge)) {
          reader.restore(mark);
          break;
        }
      }
      reader.skip_blanks();
      if (!reader.at_end() && !reader.rest().starts_with(',')) {
        challenges.push_back(std::move(challenge));
        break;
      }
    }
    challenges.push_back(std::move(challenge));
  }
  return challenges;
}

}  // namespace layerfs::registry
