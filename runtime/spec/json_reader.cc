// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/json_reader.h"

namespace layerfs::spec {

namespace {
const nlohmann::json kNull;
}  // namespace

std::string JsonReader::member_path(const char* name) const {
  return path_.empty() ? name : path_ + '.' + name;
}

void JsonReader::set_error(ErrorKind kind, const std::string& field, std::string_view reason) const {
  if (error_->has_value()) return;
  *error_ = kind == ErrorKind::kUnsupported ? unsupported_error("field", field, reason).error()
                                            : invalid_error("field", field, reason).error();
}

void JsonReader::fail(const char* name, std::string_view reason) const {
  set_error(ErrorKind::kInvalid, *name == '\0' ? path_ : member_path(name), reason);
}

void JsonReader::unsupported(const char* name) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr || *member == false) return;
  if ((member->is_object() || member->is_array()) && member->empty()) return;
  if (member->is_string() && member->get_ref<const std::string&>().empty()) return;
  set_error(ErrorKind::kUnsupported, member_path(name), "is not supported");
}

const nlohmann::json* JsonReader::find(const char* name) const {
  if (!present() || !value_->is_object()) return nullptr;
  auto found = value_->find(name);
  if (found == value_->end() || found->is_null()) return nullptr;
  return &*found;
}

const nlohmann::json* JsonReader::find_array(const char* name) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr) return nullptr;
  if (member->is_array()) return member;
  fail(name, "must be a list");
  return nullptr;
}

bool JsonReader::has_at_most(const char* name) const {
  if (!present()) return true;
  return value_->empty() || (value_->size() == 1 && value_->contains(name));
}

JsonReader JsonReader::object(const char* name) const {
  const nlohmann::json* member = find(name);
  if (member != nullptr && !member->is_object()) {
    fail(name, "must be an object");
    member = nullptr;
  }
  return {member == nullptr ? kNull : *member, member_path(name), *error_};
}

std::vector<std::pair<std::string, JsonReader>> JsonReader::members(const char* name) const {
  std::vector<std::pair<std::string, JsonReader>> list;
  JsonReader parent = object(name);
  if (!parent.present()) return list;
  for (const auto& [key, value] : parent.value_->items()) list.emplace_back(key, parent.object(key.c_str()));
  return list;
}

std::vector<JsonReader> JsonReader::objects(const char* name) const {
  std::vector<JsonReader> list;
  const nlohmann::json* member = find_array(name);
  if (member == nullptr) return list;
  for (std::size_t i = 0; i < member->size(); ++i) {
    std::string field = member_path(name) + '[' + std::to_string(i) + ']';
    if (!(*member)[i].is_object()) {
      set_error(ErrorKind::kInvalid, field, "must be an object");
      return {};
    }
    list.emplace_back((*member)[i], std::move(field), *error_);
  }
  return list;
}

std::string JsonReader::string(const char* name, std::string otherwise) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr) return otherwise;
  if (!member->is_string()) {
    fail(name, "must be a string");
    return otherwise;
  }
  auto text = member->get<std::string>();
  if (text.find('\0') != std::string::npos) fail(name, "has a NUL byte");
  return text;
}

std::string JsonReader::required_string(const char* name) const {
  std::string text = string(name);
  if (text.empty()) fail(name, has(name) ? "is empty" : "is missing");
  return text;
}

bool JsonReader::boolean(const char* name) const {
  const nlohmann::json* member = find(name);
  if (member == nullptr) return false;
  if (!member->is_boolean()) fail(name, "must be true or false");
  return member->is_boolean() && member->get<bool>();
}

std::vector<std::string> JsonReader::strings(const char* name) const {
  std::vector<std::string> list;
  const nlohmann::json* member = find_array(name);
  if (member == nullptr) return list;
  for (const auto& item : *member) {
    if (!item.is_string()) {
      fail(name, "must be a list of strings");
      return {};
    }
    list.push_back(item.get<std::string>());
    if (list.back().find('\0') != std::string::npos) fail(name, "has a NUL byte");
  }
  return list;
}

std::map<std::string, std::string> JsonReader::string_map(const char* name) const {
  std::map<std::string, std::string> map;
  JsonReader member = object(name);
  if (!member.present()) return map;
  for (const auto& [key, item] : member.value_->items()) {
    if (!item.is_string()) {
      member.fail(key.c_str(), "must be a string");
      return {};
    }
    map[key] = item.get<std::string>();
  }
  return map;
}

}  // namespace layerfs::spec
